# The CUDA compiler and its flags, with PLEIAD_CUDA.
if(PLEIAD_CUDA)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDACXX /usr/local/cuda/bin)
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "PLEIAD_CUDA needs nvcc of CUDA 13 or newer: put it on the PATH or set CUDACXX")
  endif()
  # Hopper's own instructions, and PTX that newer GPUs' drivers can translate.
  set(CMAKE_CUDA_ARCHITECTURES 90a-real 90-virtual)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
  enable_language(CUDA)
  # CMake 3.25 does not find out by itself how this compiler is asked for C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  find_package(CUDAToolkit 13 REQUIRED)
  if(pleiad_ccache)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${pleiad_ccache})
  endif()
  # The host side as strictly as nvcc's own output bears. Multiply-adds are fused where the code says
  # so and nowhere else, so that two kernels that write the same sum get the same bits.
  set(pleiad_cuda_flags --fmad=false --expt-relaxed-constexpr -Werror=all-warnings
      -DFMT_USE_CONSTEXPR=1  # fmt 9 takes nvcc for a compiler of C++11
      # Extents of arrays are template values of type int, which -Wsign-conversion dislikes.
      -Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion,-Wno-sign-conversion,-Werror
      -Xcompiler=-Wno-missing-field-initializers,-ffp-contract=off
      -Xcompiler=-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
  target_compile_options(pleiad_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:${pleiad_cuda_flags}>")
endif()
