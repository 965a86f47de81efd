# What the Python package has beside its Python files: the library under the name that it loads. A component that only
# tools/python/pyproject.toml installs.
if(SAMFORMER_PREBUILT)
  file(REAL_PATH ${SAMFORMER_PREBUILT} samformer_library)  # it is a link to the one with the version
  add_custom_target(samformer_shared)
else()
  set(samformer_library $<TARGET_FILE:samformer_shared>)
endif()
install(PROGRAMS ${samformer_library} DESTINATION . RENAME libsamformer.so COMPONENT python EXCLUDE_FROM_ALL)
