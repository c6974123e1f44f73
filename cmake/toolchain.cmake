# Warnings, sanitizers, ccache: one interface target that all our own targets link.
add_library(pleiad_flags INTERFACE)

set(pleiad_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
    -Wold-style-cast -Wnon-virtual-dtor -Woverloaded-virtual -Werror
    # Options structs are filled by name; members left out have their defaults.
    -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # -Wmaybe-uninitialized cries wolf on std::variant and std::optional in g++ 12.
  list(APPEND pleiad_warnings -Wduplicated-cond -Wlogical-op -Wuseless-cast -Wno-maybe-uninitialized)
endif()
if(PLEIAD_SANITIZE)
  add_compile_options(-fsanitize=${PLEIAD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -O1 -g1)
  add_link_options(-fsanitize=${PLEIAD_SANITIZE})
endif()
if(PLEIAD_FUZZ)
  # Every room tells the fuzzer what an input reached; the fuzzer's main is linked by its targets alone.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
list(APPEND pleiad_warnings -ffp-contract=off -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
target_compile_options(pleiad_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${pleiad_warnings}>")

find_program(pleiad_ccache ccache)
if(pleiad_ccache)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${pleiad_ccache})
endif()
