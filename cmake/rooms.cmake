# pleiad_room(name [ROOMS room...] [DEPS target...] [SOURCES file...])
# One static library pleiad_<name> of src/<name>, and, when tests/<name> has tests, the test
# program <name>_test registered with ctest. ROOMS are the rooms it includes (see src/LAYERS), DEPS
# third-party targets. SOURCES defaults to every .cc of the folder. With PLEIAD_CUDA the room's folder
# cuda is part of it; else what stands in for it, cuda/absent.
function(pleiad_room name)
  cmake_parse_arguments(ROOM "" "" "ROOMS;DEPS;SOURCES" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/${name})
  if(NOT ROOM_SOURCES)
    file(GLOB ROOM_SOURCES CONFIGURE_DEPENDS ${dir}/*.cc ${dir}/detail/*.cc)
  endif()
  if(PLEIAD_CUDA)
    file(GLOB cuda CONFIGURE_DEPENDS
      ${dir}/cuda/*.cc ${dir}/cuda/*.cu ${dir}/cuda/detail/*.cc ${dir}/cuda/detail/*.cu)
  else()
    file(GLOB cuda CONFIGURE_DEPENDS ${dir}/cuda/absent/*.cc)
  endif()
  list(APPEND ROOM_SOURCES ${cuda})
  list(TRANSFORM ROOM_ROOMS PREPEND pleiad_ OUTPUT_VARIABLE rooms)
  if(ROOM_SOURCES)
    add_library(pleiad_${name} STATIC ${ROOM_SOURCES})
    target_include_directories(pleiad_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(pleiad_${name} PUBLIC ${rooms} ${ROOM_DEPS} Threads::Threads PRIVATE pleiad_flags)
  else()
    add_library(pleiad_${name} INTERFACE)
    target_include_directories(pleiad_${name} INTERFACE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(pleiad_${name} INTERFACE ${rooms} ${ROOM_DEPS})
  endif()
  pleiad_room_test(${name})
endfunction()

# Every .cc of tests/<name> goes into one program, linked with that room: *_test.cc mirror its sources,
# others are what several of them share.
function(pleiad_room_test name)
  if(NOT PLEIAD_TESTS)
    return()
  endif()
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*.cc)
  # Sanitizers bring their own operator new; a test that replaces it stays out.
  if(PLEIAD_SANITIZE)
    list(FILTER tests EXCLUDE REGEX "/allocation_test.cc$")
  endif()
  if(NOT tests)
    return()
  endif()
  add_executable(${name}_test ${tests})
  target_include_directories(${name}_test PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name}_test PRIVATE pleiad_${name} pleiad_flags GTest::gtest_main GTest::gmock)
  target_compile_definitions(${name}_test PRIVATE PLEIAD_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name}_test)
endfunction()

# pleiad_fuzz(name ROOM room): tests/fuzz/<name>_fuzz.cc, which defines LLVMFuzzerTestOneInput.
# With PLEIAD_FUZZ it becomes a libFuzzer program; otherwise a test that replays every file of
# tests/fuzz/corpus/<name> plus seeded mutations of them.
function(pleiad_fuzz name)
  cmake_parse_arguments(FUZZ "" "ROOM" "" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/tests/fuzz)
  add_executable(${name}_fuzz ${dir}/${name}_fuzz.cc)
  target_link_libraries(${name}_fuzz PRIVATE pleiad_${FUZZ_ROOM} pleiad_flags)
  if(PLEIAD_FUZZ)
    target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name}_fuzz PRIVATE ${dir}/replay_main.cc)
    add_test(NAME fuzz_${name} COMMAND ${name}_fuzz ${dir}/corpus/${name})
  endif()
endfunction()
