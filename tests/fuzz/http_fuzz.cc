#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/detail/request_reader.h"
#include "net/detail/response_reader.h"
#include "net/url.h"

namespace {

using pleiad::net::HttpRequest;
using pleiad::net::RequestReader;
using pleiad::net::ResponseReader;

constexpr pleiad::net::HttpHeadLimits kLimits{
    .target_bytes_max = 200,
    .header_bytes_max = 500,
    .header_count_max = 10};
constexpr std::uint64_t kBodyBytesMax = 300;

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const HttpRequest& request) {
  require(pleiad::net::is_token(request.method));
  require(!request.target.empty() && request.body.size() <= kBodyBytesMax);
  require(request.headers.size() <= kLimits.header_count_max);
  const auto host = request.headers.find("host");
  require(request.minor_version == 0 || (host && pleiad::net::is_host(*host)));
  const bool length = request.headers.count("content-length") > 0;
  require(!length || request.headers.count("transfer-encoding") == 0);
  for (const auto& header : request.headers) {
    require(pleiad::net::is_token(header.name) && pleiad::net::is_header_value(header.value));
  }
}

// Everything a server sees in `bytes`, arriving in pieces of `piece` bytes.
std::string requests_of(std::string_view bytes, std::size_t piece) {
  RequestReader reader(kLimits, kBodyBytesMax);
  std::string seen;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    reader.append(bytes.substr(at, piece));
    RequestReader::Status status = reader.advance();
    while (status == RequestReader::Status::Ready) {
      const HttpRequest request = reader.take();
      check(request);
      seen.append(request.method).append(request.target).append(request.body).push_back('\n');
      status = reader.advance();
    }
    if (status == RequestReader::Status::Refused) {
      return seen.append(std::to_string(reader.refusal().status));
    }
  }
  return seen;
}

// Everything a client sees in `bytes`, arriving in pieces of `piece` bytes and then ending.
std::string answer_of(std::string_view bytes, std::size_t piece) {
  ResponseReader reader("GET", kLimits, kBodyBytesMax);
  std::string seen;
  std::size_t at = 0;
  while (true) {
    const ResponseReader::Step step = reader.next();
    switch (step.status) {
      case ResponseReader::Status::Head:
        seen += std::to_string(reader.head().status);
        break;
      case ResponseReader::Status::Payload:
        seen += step.payload;
        break;
      case ResponseReader::Status::End:
        return seen + ".";
      case ResponseReader::Status::Refused:
        return seen + "!";
      case ResponseReader::Status::NeedMore:
        if (at >= bytes.size()) reader.append_end();
        reader.append(bytes.substr(std::min(at, bytes.size()), piece));
        at += piece;
        break;
    }
  }
}

void check_url(std::string_view text) {
  const auto url = pleiad::net::parse_url(text);
  if (!url.ok()) return;
  const auto again =
      pleiad::net::parse_url("http://" + pleiad::net::host_and_port(*url) + url->target);
  require(again.ok() && again->host == url->host && again->target == url->target);
  const auto parts = pleiad::net::split_target(url->target);
  (void)pleiad::net::decode_path(parts.path);
  (void)pleiad::net::decode_query(parts.query);
}

}  // namespace

// However bytes are cut, the same requests and answers come out, and what is accepted keeps its
// promises.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  require(requests_of(text, size + 1) == requests_of(text, 1));
  require(requests_of(text, 7) == requests_of(text, 1));
  require(answer_of(text, 1) == answer_of(text, 3));
  check_url(text);
  return 0;
}
