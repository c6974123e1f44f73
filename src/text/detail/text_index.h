#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace pleiad::text::detail {

// Finds texts by content, where the texts themselves are kept elsewhere and are known by number: a
// flat table with one cache line per look-up, for the hundred thousands of a vocabulary. `text_of`
// gives the text of a number, and must answer the same in every call.
class TextIndex {
 public:
  explicit TextIndex(std::size_t texts_max = 0) : slots_(std::bit_ceil(texts_max * 2 + 2)) {}

  // Adds number `number`; of equal texts the one added last is found.
  template <typename TextOf>
  void add(std::uint32_t number, const TextOf& text_of) {
    const std::string_view text = text_of(number);
    const std::uint32_t hash = hash_of(text);
    Slot& slot = slots_[place_of(text, hash, text_of)];
    slot = {hash, number};
  }

  template <typename TextOf>
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view text, const TextOf& text_of)
      const {
    const Slot& slot = slots_[place_of(text, hash_of(text), text_of)];
    if (slot.number == kEmpty) return std::nullopt;
    return slot.number;
  }

 private:
  static constexpr std::uint32_t kEmpty = ~std::uint32_t{0};

  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t number = kEmpty;
  };

  static std::uint32_t hash_of(std::string_view text) {
    return static_cast<std::uint32_t>(std::hash<std::string_view>{}(text));
  }

  // Where `text` is, or the empty slot where it belongs. At least half of the slots are empty.
  template <typename TextOf>
  [[nodiscard]] std::size_t
  place_of(std::string_view text, std::uint32_t hash, const TextOf& text_of) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at].number != kEmpty &&
           (slots_[at].hash != hash || text_of(slots_[at].number) != text)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  std::vector<Slot> slots_;
};

}  // namespace pleiad::text::detail
