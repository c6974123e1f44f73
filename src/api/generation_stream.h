#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "api/generation.h"
#include "base/result.h"

// What a request produces, as a stream of bytes between processes: frames of a length (4 bytes,
// little-endian, of what follows it), a kind (1 byte) and an event in its wire form
// (generation_wire.h).
namespace pleiad::api {

enum class StreamFrame : std::uint8_t {
  Token = 1,
  PromptToken = 2,
  Finish = 3,
  Alive = 4,  // without an event: nothing yet, and the sender is there
};

// Bytes of one frame at most.
inline constexpr std::size_t kStreamFrameMax = std::size_t{1} << 17U;

// Appends a frame to `out`.
void append_token(std::string& out, const TokenEvent& event);
void append_prompt_token(std::string& out, const TokenEvent& event);
void append_finish(std::string& out, const FinishEvent& event);
void append_alive(std::string& out);

// Takes such a stream apart, in whatever pieces it comes. Nothing may follow a Finish.
class GenerationStreamReader {
 public:
  // Events go to `sink`, in order; it must outlive the reader.
  explicit GenerationStreamReader(GenerationSink& sink) : sink_(sink) {}

  // Fails with Corrupt when the bytes are no such stream; nothing more is read then.
  Result<void> feed(std::string_view bytes);
  // Whether the Finish came.
  [[nodiscard]] bool finished() const { return finished_; }

 private:
  Result<std::size_t> take_frame(std::string_view bytes);
  Result<void> take_event(StreamFrame kind, std::span<const std::byte> bytes);

  GenerationSink& sink_;
  std::string rest_;  // of a frame that has not come whole
  bool finished_ = false;
};

}  // namespace pleiad::api
