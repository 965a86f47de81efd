# libsamformer.so: the engine, the tools and the devices behind the C interface, and what others find it by. Installed
# beside the program; none of the static libraries' symbols is exported.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

file(STRINGS tools/c/samformer.h samformer_abi REGEX "^#define SAMFORMER_ABI ")
string(REGEX MATCH "[0-9]+" samformer_abi "${samformer_abi}")
add_library(samformer_shared SHARED tools/c/samformer.cpp)
target_link_libraries(samformer_shared PRIVATE samformer_tools samformer_gpu)
target_link_options(samformer_shared PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/tools/c/exports.map
                    -Wl,--no-undefined -Wl,--as-needed)
target_include_directories(samformer_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(samformer_shared PROPERTIES OUTPUT_NAME samformer EXPORT_NAME samformer
                      SOVERSION ${samformer_abi} VERSION ${samformer_abi}.${PROJECT_VERSION}
                      PUBLIC_HEADER tools/c/samformer.h LINK_DEPENDS ${PROJECT_SOURCE_DIR}/tools/c/exports.map)

set(samformer_package ${CMAKE_INSTALL_LIBDIR}/cmake/samformer)
install(TARGETS samformer_shared EXPORT samformer PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT samformer NAMESPACE samformer:: FILE samformerConfig.cmake DESTINATION ${samformer_package})
write_basic_package_version_file(samformerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
file(RELATIVE_PATH samformer_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(tools/c/samformer.pc.in samformer.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/samformerConfigVersion.cmake DESTINATION ${samformer_package})
install(FILES ${PROJECT_BINARY_DIR}/samformer.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
