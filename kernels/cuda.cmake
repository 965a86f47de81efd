# The GPU code (kernels/cuda/*.cu and optim/gpu_*.cpp), twice: samformer_emulated for the SIMT emulator, built by the host
# compiler for the tests; samformer_gpu for CUDA where nvcc is found, elsewhere the device list that is empty. Their
# symbols live in different inline namespaces, so both can be linked.
file(GLOB gpu_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/cuda/*.cu)

# The thread sanitizer does not follow the emulator's fibers.
if(SAMFORMER_TESTS AND NOT SAMFORMER_SANITIZE MATCHES "thread")
  # A wrapper a file, because CMake gives a source one language.
  set(emulated_sources ${PROJECT_SOURCE_DIR}/kernels/simt/simt.cpp ${PROJECT_SOURCE_DIR}/optim/gpu_device.cpp
      ${PROJECT_SOURCE_DIR}/optim/gpu_network.cpp)
  foreach(source ${gpu_sources})
    cmake_path(GET source STEM name)
    set(wrapper ${PROJECT_BINARY_DIR}/emulated/${name}.cpp)
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"kernels/cuda/${name}.cu\"\n")
    list(APPEND emulated_sources ${wrapper})
  endforeach()
  add_library(samformer_emulated STATIC ${emulated_sources})
  target_link_libraries(samformer_emulated PUBLIC samformer_engine)
  target_compile_definitions(samformer_emulated PUBLIC SAMFORMER_EMULATED)
  target_compile_options(samformer_emulated PRIVATE -Wno-unknown-pragmas)
endif()

if(SAMFORMER_CUDA AND NOT SAMFORMER_SANITIZE)
  include(CheckLanguage)
  check_language(CUDA)
endif()
if(NOT CMAKE_CUDA_COMPILER)
  add_library(samformer_gpu STATIC optim/no_gpu.cpp)
  target_link_libraries(samformer_gpu PUBLIC samformer_engine)
  return()
endif()

# Machine code for Turing, Ampere and Ada (8.x), Hopper; PTX for what is newer.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "75-real;80-real;90")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
add_library(samformer_cuda STATIC ${gpu_sources})
target_include_directories(samformer_cuda PUBLIC ${PROJECT_SOURCE_DIR})
# CMake 3.25 does not know that newer nvccs have C++20; the kernels need no more than C++17.
set_target_properties(samformer_cuda PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON)
target_compile_options(samformer_cuda PRIVATE --expt-relaxed-constexpr -lineinfo)
# Static, so that the program starts where no CUDA is installed; the ptx preset takes the shared one.
if(CMAKE_CUDA_RUNTIME_LIBRARY STREQUAL "Shared")
  target_link_libraries(samformer_cuda PUBLIC CUDA::cudart)
else()
  target_link_libraries(samformer_cuda PUBLIC CUDA::cudart_static)
endif()
target_link_libraries(samformer_cuda PUBLIC ${CMAKE_DL_LIBS})
add_library(samformer_gpu STATIC optim/gpu_device.cpp optim/gpu_network.cpp)
target_link_libraries(samformer_gpu PUBLIC samformer_engine samformer_cuda)
