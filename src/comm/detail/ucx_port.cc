#include "comm/detail/ucx_port.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <poll.h>

#include "base/check.h"

namespace pleiad::comm {
namespace {

constexpr unsigned kActiveMessage = 17;         // UCX's id of our messages
constexpr std::uint64_t kAheadMax = 1U << 20U;  // messages of a lane that wait for an earlier one
constexpr int kRoundsMax = 256;                 // of progress in one advance()
constexpr std::size_t kFarewellMax = 1'000;     // bytes of the reason that peers are told
constexpr auto kFarewellTime = std::chrono::milliseconds{200};
constexpr auto kClosingTime = std::chrono::milliseconds{1'000};

std::size_t index_of(Rank rank) {
  return static_cast<std::size_t>(rank);
}

std::span<const std::byte> bytes_at(const void* payload, std::size_t bytes) {
  return {static_cast<const std::byte*>(payload), bytes};
}

bool is_of_lane(UcxKind kind) {
  return kind == UcxKind::Message || kind == UcxKind::Put;
}

ucp_request_param_t host_memory() {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  return param;
}

}  // namespace

// A message on its way out. UCX reads the header until it is done with it.
struct UcxPort::Send {
  UcxHeader header;
  void* request = nullptr;
  std::uint64_t mark = 0;
  Rank peer = 0;
};

UcxPort::UcxPort(std::unique_ptr<UcxWorker> worker, const Place& place, Breakage& breakage)
    : worker_(std::move(worker)), place_(place), breakage_(breakage) {
  for (Rank rank = 0; rank < place.size; ++rank) {
    peers_.push_back(std::make_unique<UcxPeer>());
    peers_.back()->rank = rank;
  }
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kActiveMessage;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG | UCP_AM_FLAG_PERSISTENT_DATA;
  handler.cb = on_arrival;
  handler.arg = this;
  const ucs_status_t status = ucp_worker_set_am_recv_handler(worker_->get(), &handler);
  PLEIAD_CHECK(status == UCS_OK, text_of(status));
}

UcxPort::~UcxPort() {
  leave();
}

Result<void> UcxPort::connect(std::span<const std::vector<std::byte>> addresses) {
  const UcxHome home = find_home();
  for (const auto& peer : peers_) {
    const std::vector<std::byte>& address = addresses[index_of(peer->rank)];
    std::memcpy(&peer->home, address.data(), sizeof peer->home);
    if (peer->rank == place_.rank) continue;
    peer->watched_by_ucx = !place_.shared_memory || !peer->home.shares_memory_with(home);
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                        UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data() + sizeof(UcxHome));
    params.err_mode =
        peer->watched_by_ucx ? UCP_ERR_HANDLING_MODE_PEER : UCP_ERR_HANDLING_MODE_NONE;
    params.err_handler.cb = on_endpoint_error;
    params.err_handler.arg = peer.get();
    const ucs_status_t status = ucp_ep_create(worker_->get(), &params, &peer->endpoint);
    if (status == UCS_OK) continue;
    peer->endpoint = nullptr;
    return unavailable(
        "rank {} has no way to reach rank {}: {}", place_.rank, peer->rank, text_of(status)
    );
  }
  hello_ = {.size = place_.size};
  say(UcxKind::Hello, {}, std::as_bytes(std::span(&hello_, 1)));
  return {};
}

// To all peers that can be reached.
void UcxPort::say(UcxKind kind, const UcxHeader& header, std::span<const std::byte> payload) {
  for (const auto& peer : peers_) {
    if (peer->endpoint == nullptr || peer->lost) continue;
    UcxHeader told = header;
    told.kind = kind;
    if (kind == UcxKind::Goodbye) {
      told.sequence = peer->messages_sent;
      told.offset = peer->puts_sent;
    }
    send(peer->rank, told, payload, 0);
  }
}

UcxPort::Send& UcxPort::free_send() {
  if (free_sends_.empty()) {
    sends_.push_back(std::make_unique<Send>());
    return *sends_.back();
  }
  Send* free = free_sends_.back();
  free_sends_.pop_back();
  return *free;
}

void UcxPort::send(
    Rank to,
    UcxHeader header,
    std::span<const std::byte> payload,
    std::uint64_t mark
) {
  UcxPeer& peer = *peers_[index_of(to)];
  if (peer.endpoint == nullptr) return;
  header.epoch = place_.epoch;
  header.source = place_.rank;
  header.bytes = payload.size();
  if (header.kind == UcxKind::Message) header.sequence = peer.messages_sent++;
  if (header.kind == UcxKind::Put) header.sequence = peer.puts_sent++;
  const bool checked = place_.checksums || !is_of_lane(header.kind);
  header.checksum = checked ? checksum_of(header, payload) : 0;
  Send& record = free_send();
  record.header = header;
  record.mark = mark;
  record.peer = to;
  ucp_request_param_t param = host_memory();
  if (!is_of_lane(header.kind)) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_AM_SEND_FLAG_EAGER;
  }
  void* request = ucp_am_send_nbx(
      peer.endpoint,
      kActiveMessage,
      &record.header,
      sizeof record.header,
      payload.data(),
      payload.size(),
      &param
  );
  if (UCS_PTR_IS_PTR(request)) {
    record.request = request;
    sending_.push() = &record;
    return;
  }
  if (UCS_PTR_IS_ERR(request) && !peer.lost) peer.lost = text_of(UCS_PTR_STATUS(request));
  free_sends_.push_back(&record);
}

void UcxPort::reap_sends() {
  while (!sending_.empty()) {
    Send& oldest = *sending_.front();
    const ucs_status_t status = ucp_request_check_status(oldest.request);
    if (status == UCS_INPROGRESS) return;
    UcxPeer& peer = *peers_[index_of(oldest.peer)];
    if (status != UCS_OK && !peer.lost) peer.lost = text_of(status);
    ucp_request_free(oldest.request);
    oldest.request = nullptr;
    free_sends_.push_back(&oldest);
    sending_.pop();
  }
}

std::optional<Rank> UcxPort::unsent(UcxKind kind, std::uint64_t mark) {
  for (std::size_t i = 0; i < sending_.size(); ++i) {
    const Send& send = *sending_[i];
    if (send.header.kind != kind || send.mark > mark) continue;
    if (ucp_request_check_status(send.request) == UCS_INPROGRESS) return send.peer;
  }
  return std::nullopt;
}

const UcxPeer* UcxPort::lost_peer() const {
  for (const auto& peer : peers_) {
    if (peer->lost && !peer->goodbye) return peer.get();
  }
  return nullptr;
}

void UcxPort::on_endpoint_error(void* peer, ucp_ep_h /*endpoint*/, ucs_status_t status) {
  auto& lost = static_cast<UcxPeer*>(peer)->lost;
  if (!lost) lost = text_of(status);
}

ucs_status_t UcxPort::on_arrival(
    void* port,
    const void* header,
    std::size_t header_bytes,
    void* payload,
    std::size_t payload_bytes,
    const ucp_am_recv_param_t* how
) {
  UcxPort& self = *static_cast<UcxPort*>(port);
  UcxStream::Arrival arrival{.there = true, .payload = payload_bytes == 0 ? nullptr : payload};
  if (header_bytes != sizeof arrival.header) return UCS_OK;
  std::memcpy(&arrival.header, header, header_bytes);
  arrival.by_rendezvous = (how->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  const Rank source = arrival.header.source;
  if (source < 0 || source >= self.place_.size || source == self.place_.rank) return UCS_OK;
  UcxPeer& peer = *self.peers_[index_of(source)];
  if (arrival.header.epoch != self.place_.epoch) {
    if (arrival.header.kind == UcxKind::Hello) peer.other_epoch = arrival.header.epoch;
    return UCS_OK;
  }
  if (self.breakage_.broken()) return UCS_OK;
  if (arrival.header.bytes != payload_bytes) {
    self.break_here(corrupt(
        "{}: a message of rank {} lies about its length: {} bytes, not {}",
        self.step_,
        source,
        payload_bytes,
        arrival.header.bytes
    ));
    return UCS_OK;
  }
  if (is_of_lane(arrival.header.kind)) {
    return self.accept(peer, arrival) ? UCS_INPROGRESS : UCS_OK;
  }
  if (!arrival.by_rendezvous) self.hear(peer, arrival.header, bytes_at(payload, payload_bytes));
  return UCS_OK;
}

bool UcxPort::accept(UcxPeer& peer, const UcxStream::Arrival& arrival) {
  const UcxHeader& header = arrival.header;
  UcxStream& stream = header.kind == UcxKind::Put ? peer.puts : peer.messages;
  const std::uint64_t ahead = header.sequence - stream.next;  // huge for what came before
  const bool known = ahead < stream.arrivals.size() && stream.arrivals[ahead].there;
  if (ahead > kAheadMax || known) {
    break_here(corrupt(
        "{}: message {} of rank {} came instead of message {}",
        step_,
        header.sequence,
        peer.rank,
        stream.next
    ));
    return false;
  }
  if (ahead == 0 && !arrival.by_rendezvous) {
    // Straight from UCX's memory into the waiting buffer.
    if (const auto buffer = destination(peer, header)) {
      if (header.bytes > 0) std::memcpy(buffer->data(), arrival.payload, header.bytes);
      finish(peer, stream, header, buffer->first(header.bytes));
      return false;
    }
    if (breakage_.broken()) return false;
  }
  while (stream.arrivals.size() <= ahead) {
    stream.arrivals.push() = {};
  }
  stream.arrivals[ahead] = arrival;
  return arrival.payload != nullptr;
}

void UcxPort::hear(UcxPeer& peer, const UcxHeader& header, std::span<const std::byte> payload) {
  if (checksum_of(header, payload) != header.checksum) {
    break_here(corrupt("{}: a message of rank {} arrived damaged", step_, peer.rank));
    return;
  }
  switch (header.kind) {
    case UcxKind::Hello:
      if (payload.size() == sizeof(UcxHello)) {
        std::memcpy(&peer.hello.emplace(), payload.data(), payload.size());
      }
      return;
    case UcxKind::Goodbye:
      peer.goodbye = header;
      return;
    case UcxKind::Broken: {
      const auto kind_max = static_cast<std::uint32_t>(ErrorKind::Internal);
      const auto kind = static_cast<ErrorKind>(std::min(header.window, kind_max));
      std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
      breakage_.set(static_cast<Rank>(header.offset), {.kind = kind, .message = std::move(text)});
      return;
    }
    case UcxKind::Message:
    case UcxKind::Put:
      return;
  }
}

// Where the bytes of the next message belong; nothing while nobody has offered a buffer for it, or
// when it fits nowhere, which breaks the group.
std::optional<std::span<std::byte>> UcxPort::destination(UcxPeer& peer, const UcxHeader& header) {
  if (header.kind == UcxKind::Message) {
    if (!peer.offers.wants_message()) return std::nullopt;
    const std::span<std::byte> buffer = peer.offers.next();
    if (header.bytes <= buffer.size()) return buffer;
    break_here(too_long(step_, place_.rank, peer.rank, header.bytes, buffer.size()));
    return std::nullopt;
  }
  const bool open = header.window < windows_.size();
  const std::size_t room = open ? windows_[header.window].memory.size() : 0;
  if (open && header.offset <= room && header.bytes <= room - header.offset) {
    return windows_[header.window].memory.subspan(header.offset, header.bytes);
  }
  break_here(corrupt(
      "{}: rank {} wrote {} bytes at {} into window {}, which has {}",
      step_,
      peer.rank,
      header.bytes,
      header.offset,
      header.window,
      room
  ));
  return std::nullopt;
}

// The bytes of the stream's next message are in their place.
void UcxPort::finish(
    UcxPeer& peer,
    UcxStream& stream,
    const UcxHeader& header,
    std::span<const std::byte> payload
) {
  if (place_.checksums && checksum_of(header, payload) != header.checksum) {
    break_here(corrupt(
        "{}: message {} of rank {} ({} bytes) arrived damaged at rank {}: its checksum differs",
        step_,
        header.sequence,
        peer.rank,
        header.bytes,
        place_.rank
    ));
    return;
  }
  if (!stream.arrivals.empty()) stream.arrivals.pop();
  ++stream.next;
  bytes_received += header.bytes;
  if (header.kind == UcxKind::Message) {
    ++messages_received;
    peer.offers.fill(header.bytes);
  } else {
    ++windows_[header.window].puts[index_of(peer.rank)];
  }
}

// Moves messages that have come into their buffers; true when at least one got there.
bool UcxPort::deliver(UcxPeer& peer, UcxStream& stream) {
  bool moved = false;
  while (stream.ready() && !breakage_.broken()) {
    const UcxHeader header = stream.arrivals[0].header;
    const auto buffer = destination(peer, header);
    if (!buffer || !fetch_front(peer, stream, buffer->first(header.bytes))) return moved;
    finish(peer, stream, header, buffer->first(header.bytes));
    moved = true;
  }
  return moved;
}

// Brings the bytes of the stream's first arrival into `buffer`; false while they are on their way.
bool UcxPort::fetch_front(UcxPeer& peer, UcxStream& stream, std::span<std::byte> buffer) {
  UcxStream::Arrival& front = stream.arrivals[0];
  if (!front.by_rendezvous) {
    if (front.payload == nullptr) return true;
    std::memcpy(buffer.data(), front.payload, buffer.size());
    ucp_am_data_release(worker_->get(), std::exchange(front.payload, nullptr));
    return true;
  }
  ucs_status_t status = UCS_INPROGRESS;
  if (stream.receiving == nullptr) {
    const ucp_request_param_t param = host_memory();
    void* request = ucp_am_recv_data_nbx(
        worker_->get(), std::exchange(front.payload, nullptr), buffer.data(), buffer.size(), &param
    );
    if (UCS_PTR_IS_PTR(request)) {
      stream.receiving = request;
    } else {
      status = UCS_PTR_STATUS(request);
    }
  }
  if (stream.receiving != nullptr) {
    status = ucp_request_check_status(stream.receiving);
    if (status != UCS_INPROGRESS) ucp_request_free(std::exchange(stream.receiving, nullptr));
  }
  if (status == UCS_OK) return true;
  if (status != UCS_INPROGRESS) {
    break_here(pleiad::comm::lost_peer(step_, place_.rank, peer.rank, text_of(status)));
  }
  return false;
}

void UcxPort::advance(std::string_view step) {
  if (closed_) return;
  step_ = step;
  bool moved = true;
  for (int round = 0; moved && round < kRoundsMax && !breakage_.broken(); ++round) {
    moved = worker_->progress();
    for (const auto& peer : peers_) {
      if (peer->messages.ready()) moved = deliver(*peer, peer->messages) || moved;
      if (peer->puts.ready()) moved = deliver(*peer, peer->puts) || moved;
    }
    reap_sends();
  }
}

void UcxPort::idle(std::chrono::milliseconds longest) {
  if (!worker_->arm()) return;
  pollfd event{.fd = worker_->event_fd(), .events = POLLIN, .revents = 0};
  ::poll(&event, 1, static_cast<int>(longest.count()));
}

void UcxPort::run_until_said(UcxKind kind, Nanoseconds longest) {
  const Nanoseconds end = clock_.now() + longest;
  while (unsent(kind, 0) && clock_.now() < end) {
    if (!worker_->progress()) idle(std::chrono::milliseconds{5});
    reap_sends();
  }
}

void UcxPort::release_arrivals() {
  for (const auto& peer : peers_) {
    for (UcxStream* stream : {&peer->messages, &peer->puts}) {
      for (std::size_t i = 0; i < stream->arrivals.size(); ++i) {
        void* payload = std::exchange(stream->arrivals[i].payload, nullptr);
        if (payload != nullptr) ucp_am_data_release(worker_->get(), payload);
      }
    }
  }
}

// Endpoints that were closed by force have ended what was under way on them. What comes through
// shared memory moves only while this worker is asked to, so it has ended too.
void UcxPort::settle_fetches(Nanoseconds longest) {
  const Nanoseconds end = clock_.now() + longest;
  for (const auto& peer : peers_) {
    for (UcxStream* stream : {&peer->messages, &peer->puts}) {
      if (stream->receiving == nullptr || !peer->watched_by_ucx) continue;
      while (ucp_request_check_status(stream->receiving) == UCS_INPROGRESS && clock_.now() < end) {
        if (!worker_->progress()) idle(std::chrono::milliseconds{5});
      }
      ucp_request_free(std::exchange(stream->receiving, nullptr));
    }
  }
}

void UcxPort::close_endpoints(unsigned flags, Nanoseconds longest) {
  std::vector<void*> closing;
  for (const auto& peer : peers_) {
    // Without a watch there is no closing by force; destroying the worker ends such an endpoint.
    const bool by_force = peer->lost || flags != 0;
    if (peer->endpoint == nullptr || (by_force && !peer->watched_by_ucx)) continue;
    ucp_request_param_t param{};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = by_force ? unsigned{UCP_EP_CLOSE_FLAG_FORCE} : 0U;
    void* request = ucp_ep_close_nbx(std::exchange(peer->endpoint, nullptr), &param);
    if (UCS_PTR_IS_PTR(request)) closing.push_back(request);
  }
  const Nanoseconds end = clock_.now() + longest;
  for (void* request : closing) {
    while (ucp_request_check_status(request) == UCS_INPROGRESS && clock_.now() < end) {
      if (!worker_->progress()) idle(std::chrono::milliseconds{5});
    }
    ucp_request_free(request);
  }
}

void UcxPort::tear_down() {
  if (std::exchange(closed_, true)) return;
  const auto [by, reason] = breakage_.first();
  farewell_ = reason.message.substr(0, kFarewellMax);
  UcxHeader header;
  header.window = static_cast<std::uint32_t>(reason.kind);
  header.offset = index_of(by);
  say(UcxKind::Broken, header, std::as_bytes(std::span(farewell_)));
  run_until_said(UcxKind::Broken, kFarewellTime);
  release_arrivals();
  close_endpoints(UCP_EP_CLOSE_FLAG_FORCE, kClosingTime);
  settle_fetches(kClosingTime);
  reap_sends();
}

void UcxPort::leave() {
  if (closed_) return;
  if (breakage_.broken()) {
    tear_down();
    return;
  }
  closed_ = true;
  release_arrivals();
  say(UcxKind::Goodbye, {}, {});
  run_until_said(UcxKind::Goodbye, kClosingTime);
  close_endpoints(0, kClosingTime);
  settle_fetches(kClosingTime);
  reap_sends();
}

}  // namespace pleiad::comm
