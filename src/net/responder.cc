#include "net/responder.h"

#include <utility>

#include "net/detail/exchange.h"

namespace pleiad::net {

Responder::Responder(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}

Responder::~Responder() {
  exchange_->drop();
}

void Responder::respond(const HttpResponse& response) {
  exchange_->respond(response);
}

void Responder::start_stream(int status, const HttpHeaders& headers) {
  exchange_->start_stream(status, headers);
}

bool Responder::write(std::string_view bytes) {
  return exchange_->write(bytes);
}

void Responder::finish() {
  exchange_->finish();
}

void Responder::abort() {
  exchange_->abort();
}

void Responder::on_disconnect(UniqueFunction<void(DisconnectReason)> callback) {
  exchange_->on_disconnect(std::move(callback));
}

bool Responder::disconnected() const {
  return exchange_->disconnected();
}

std::size_t Responder::unsent_bytes() const {
  return exchange_->unsent_bytes();
}

}  // namespace pleiad::net
