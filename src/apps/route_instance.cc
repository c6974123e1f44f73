#include "apps/route_instance.h"

#include <filesystem>
#include <utility>

#include <fmt/core.h>

#include "apps/exposure.h"

namespace pleiad::apps {

Result<std::unique_ptr<RouteInstance>> RouteInstance::start(RouteSettings settings) {
  PLEIAD_TRY(check_exposure({settings.host, settings.api_keys, settings.allow_unauthenticated}));
  if (settings.router.secret.empty()) {
    return invalid_input(
        "workers are asked under the cluster's secret: give --cluster-secret-file, or env "
        "PLEIAD_CLUSTER_SECRET, here and to every worker"
    );
  }
  auto instance = std::unique_ptr<RouteInstance>(new RouteInstance(std::move(settings)));
  PLEIAD_TRY(instance->open());
  return instance;
}

Result<void> RouteInstance::open() {
  PLEIAD_TRY(text, load_model_text(settings_.text));
  text_ = std::move(text);
  api::Sampling sampling;
  if (!settings_.ignore_generation_config) {
    PLEIAD_TRY(defaults, load_default_sampling(settings_.text.model));
    sampling = defaults;
  }
  if (settings_.served_names.empty()) {
    settings_.served_names = {std::filesystem::weakly_canonical(settings_.text.model).filename()};
  }
  generator_ = std::make_unique<router::RoutedGenerator>(loop_, metrics_, settings_.router);
  for (const std::string& url : settings_.workers) {
    PLEIAD_TRY(generator_->add_worker(url));
  }
  for (const std::string& url : settings_.prefill_workers) {
    PLEIAD_TRY(generator_->add_worker(url, api::Role::Prefill));
  }
  for (const std::string& url : settings_.decode_workers) {
    PLEIAD_TRY(generator_->add_worker(url, api::Role::Decode));
  }
  service_ = std::make_unique<server::OpenaiService>(
      server::ServiceParts{
          .loop = &loop_,
          .text_loop = &text_loop_,
          .generator = generator_.get(),
          .text = &text_,
          .metrics = &metrics_,
          .clock = &clock_,
      },
      server::ServiceOptions{
          .model_names = settings_.served_names,
          .version = PLEIAD_VERSION,
          .api_keys = settings_.api_keys,
          .default_sampling = sampling,
      }
  );
  PLEIAD_TRY(
      server,
      net::HttpServer::listen(
          loop_,
          {.address = settings_.host, .port = settings_.port},
          [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
            service_->handle(std::move(request), std::move(responder));
          }
      )
  );
  server_ = std::move(server);
  loop_thread_ = std::thread([this] { loop_.run(); });
  text_thread_ = std::thread([this] { text_loop_.run(); });
  return {};
}

RouteInstance::~RouteInstance() {
  loop_.stop();
  text_loop_.stop();
  if (loop_thread_.joinable()) loop_thread_.join();
  if (text_thread_.joinable()) text_thread_.join();
  // The last events of requests go to sessions of the service.
  generator_.reset();
  service_.reset();
  server_.reset();
}

std::string RouteInstance::url() const {
  return listening_url(settings_.host, server_->port());
}

void RouteInstance::drain(net::Task on_drained) {
  loop_.post([this, on_drained = std::move(on_drained)]() mutable {
    service_->begin_drain();
    generator_->stop_accepting();
    server_->close_listener(std::move(on_drained));
  });
}

}  // namespace pleiad::apps
