# `cmake --install` and `cpack`: the program, its manual page (where help2man is), completions for three shells, the
# licence and what changed. The completions are made by the program itself, from its tables.
include(GNUInstallDirs)

install(TARGETS samformer)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(FILES README.md tools/docs/changes.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

# made(FILE FOLDER COMMAND...): what COMMAND prints, as FILE, to be installed into FOLDER.
set(made_files "")
function(made file folder)
  set(path ${CMAKE_BINARY_DIR}/share/${file})
  add_custom_command(OUTPUT ${path} DEPENDS samformer ${PROJECT_SOURCE_DIR}/tools/scripts/man_page.sh
                     COMMAND ${ARGN} > ${path} VERBATIM)
  install(FILES ${path} DESTINATION ${CMAKE_INSTALL_DATADIR}/${folder} RENAME ${ARGV0})
  set(made_files ${made_files} ${path} PARENT_SCOPE)
endfunction()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/share)
made(samformer bash-completion/completions samformer completion bash)
made(_samformer zsh/site-functions samformer completion zsh)
made(samformer.fish fish/vendor_completions.d samformer completion fish)
find_program(HELP2MAN help2man)
if(HELP2MAN)
  made(samformer.1 man/man1 ${PROJECT_SOURCE_DIR}/tools/scripts/man_page.sh $<TARGET_FILE:samformer>)
endif()
add_custom_target(samformer_share ALL DEPENDS ${made_files})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "samformer maintainers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "trains SAMformer and forecasts long time series")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS tzdata)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
include(CPack)
