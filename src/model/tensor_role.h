#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "device/tensor_view.h"

namespace pleiad::model {

// What a tensor of a checkpoint is for, by its published name.
enum class TensorRole : std::uint8_t {
  Embedding,
  Attention,
  DenseMlp,
  Experts,
  SharedExperts,
  Gate,
  Norm,
  Head,
  Unused,  // of layers beyond the model's, such as those that predict further tokens
};
inline constexpr std::array kTensorRoles = {
    TensorRole::Embedding,
    TensorRole::Attention,
    TensorRole::DenseMlp,
    TensorRole::Experts,
    TensorRole::SharedExperts,
    TensorRole::Gate,
    TensorRole::Norm,
    TensorRole::Head,
    TensorRole::Unused,
};

// Of a model with `layers` layers.
TensorRole role_of(std::string_view name, std::int64_t layers);
std::string_view to_string(TensorRole role);

// Numbers of the model that a tensor holds: its elements, those that several share a word, and none
// where it holds scales of others.
std::int64_t parameters_of(std::string_view name, const device::TensorView& tensor);

}  // namespace pleiad::model
