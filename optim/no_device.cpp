// The devices of a build without CUDA: none (optim/device_model.h).
#include "optim/device_model.h"

namespace samformer::optim {

std::vector<Gpu> list_gpus(std::string& why_none) {
  why_none = "this build has no CUDA backend (no nvcc was found)";
  return {};
}

std::unique_ptr<Device> open_gpu(int index, bool) {
  throw Error(Exit::device, fmt::format("cuda:{}: this build has no CUDA backend (no nvcc was found)", index))
      .hint("use --device cpu; `samformer doctor` lists the devices");
}

}  // namespace samformer::optim
