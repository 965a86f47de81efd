# Included at the end of tests/CMakeLists.txt where nvcc was found.
add_test(NAME gpu_resources
         COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/gpu_resources.sh ${CMAKE_CUDA_COMPILER} ${PROJECT_SOURCE_DIR})
set_tests_properties(gpu_resources PROPERTIES LABELS nvcc TIMEOUT 1200)

# The GPU's tests on the GPU's code, label gpu: on a GPU where there is one, on a PTX simulator where the environment
# variable CUDASIM names its library (preset ptx: it takes the place of a shared CUDA runtime), else skipped with one line.
foreach(name gpu_cases gpu_kernels gpu_training)
  add_executable(${name}_cuda_test gpu/${name}_test.cpp)
  target_link_libraries(${name}_cuda_test PRIVATE samformer_gpu samformer_options GTest::gtest_main ${CMAKE_DL_LIBS})
endforeach()
set(on_a_gpu gpu_cases_cuda_test gpu_kernels_cuda_test gpu_training_cuda_test)
if(CMAKE_CUDA_RUNTIME_LIBRARY STREQUAL "Shared")
  add_executable(gpu_costs gpu/gpu_costs.cpp)
  target_link_libraries(gpu_costs PRIVATE samformer_gpu samformer_options ${CMAKE_DL_LIBS})
  list(APPEND on_a_gpu gpu_costs)
endif()
foreach(name ${on_a_gpu})
  add_test(NAME gpu.${name} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/gpu/on_a_gpu.sh $<TARGET_FILE:${name}>)
  set_tests_properties(gpu.${name} PROPERTIES LABELS gpu SKIP_RETURN_CODE 77 TIMEOUT 3000)
endforeach()
