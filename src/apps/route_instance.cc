#include "apps/route_instance.h"

#include <filesystem>
#include <utility>

#include <fmt/core.h>

#include "apps/exposure.h"

namespace pleiad::apps {

namespace {

// What --policy-file may change, as the flags have it.
router::RouterPolicy policy_of(const RouteSettings& settings) {
  router::RouterPolicy out{
      .routing = settings.router.core.policy,
      .prefill_tokens_min = settings.router.core.prefill_tokens_min,
  };
  out.admission.concurrent_max = settings.router.open_max;
  return out;
}

}  // namespace

Result<std::unique_ptr<RouteInstance>> RouteInstance::start(RouteSettings settings) {
  if (settings.router.secret.empty()) {
    return invalid_input(
        "workers are asked under the cluster's secret: give --cluster-secret-file, or env "
        "PLEIAD_CLUSTER_SECRET, here and to every worker"
    );
  }
  for (const std::string& key : settings.admin_keys) {
    if (key.empty()) return invalid_input("an admin key must not be empty");
  }
  auto instance = std::unique_ptr<RouteInstance>(new RouteInstance(std::move(settings)));
  PLEIAD_TRY(instance->open());
  return instance;
}

Result<void> RouteInstance::open() {
  PLEIAD_TRY(text, load_model_text(settings_.text));
  text_ = std::move(text);
  if (settings_.served_names.empty()) {
    settings_.served_names = {std::filesystem::weakly_canonical(settings_.text.model).filename()};
  }
  generator_ = std::make_unique<router::RoutedGenerator>(loop_, metrics_, settings_.router);
  gate_ = std::make_unique<router::LoopAdmission>(
      loop_, metrics_, clock_, policy_of(settings_).admission
  );
  PLEIAD_TRY(add_workers());
  PLEIAD_TRY(open_service());
  PLEIAD_TRY(read_policy());
  PLEIAD_TRY(check_exposure({
      .host = settings_.host,
      .api_keys = settings_.api_keys,
      .allow_unauthenticated = settings_.allow_unauthenticated,
      .more_keys = has_keys_,
  }));
  PLEIAD_TRY(listen());
  loop_thread_ = std::thread([this] { loop_.run(); });
  text_thread_ = std::thread([this] { text_loop_.run(); });
  return {};
}

Result<void> RouteInstance::add_workers() {
  registry_ = std::make_unique<WorkerRegistry>(
      loop_, *generator_, metrics_, WorkerRegistry::Options{.secret = settings_.router.secret}
  );
  for (const std::string& url : settings_.workers) {
    PLEIAD_TRY(registry_->add(url));
  }
  for (const std::string& url : settings_.prefill_workers) {
    PLEIAD_TRY(registry_->add(url, api::Role::Prefill));
  }
  for (const std::string& url : settings_.decode_workers) {
    PLEIAD_TRY(registry_->add(url, api::Role::Decode));
  }
  return {};
}

Result<void> RouteInstance::open_service() {
  api::Sampling sampling;
  if (!settings_.ignore_generation_config) {
    PLEIAD_TRY(defaults, load_default_sampling(settings_.text.model));
    sampling = defaults;
  }
  service_ = std::make_unique<server::OpenaiService>(
      server::ServiceParts{
          .loop = &loop_,
          .text_loop = &text_loop_,
          .generator = generator_.get(),
          .text = &text_,
          .metrics = &metrics_,
          .clock = &clock_,
          .gate = gate_.get(),
      },
      server::ServiceOptions{
          .model_names = settings_.served_names,
          .version = PLEIAD_VERSION,
          .api_keys = settings_.api_keys,
          .default_sampling = sampling,
          .why_not_ready = [generator = generator_.get()] { return generator->why_not_ready(); },
      }
  );
  intake_ = std::make_unique<server::RequestIntake>(
      *generator_,
      text_,
      clock_,
      server::IntakeOptions{.model_names = settings_.served_names, .default_sampling = sampling}
  );
  admin_ = std::make_unique<RouteAdmin>(
      RouteAdmin::Parts{
          .loop = &loop_,
          .text_loop = &text_loop_,
          .generator = generator_.get(),
          .registry = registry_.get(),
          .intake = intake_.get(),
      },
      settings_.admin_keys
  );
  return {};
}

Result<void> RouteInstance::read_policy() {
  has_keys_ = !settings_.api_keys.empty();
  if (settings_.policy_file.empty()) return {};
  policy_ = std::make_unique<PolicyFileWatch>(
      loop_,
      metrics_,
      PolicyFileWatch::Options{
          .path = settings_.policy_file,
          .defaults = policy_of(settings_),
          .interval = settings_.policy_interval},
      [this](const router::RouterPolicy& policy) { return apply(policy); }
  );
  return policy_->start();
}

// All of it or nothing.
Result<void> RouteInstance::apply(const router::RouterPolicy& policy) {
  if (policy.admission.concurrent_max > settings_.router.open_max) {
    return invalid_input(
        "max_concurrent_requests must be at most --max-concurrent-requests, which is {}; got {}",
        settings_.router.open_max,
        policy.admission.concurrent_max
    );
  }
  server::ApiKeys keys(settings_.api_keys);
  for (const router::KeyDigest& key : policy.keys) {
    keys.add(key.name, key.digest);
  }
  if (has_keys_ && keys.open_to_all()) {
    return invalid_input(
        "no key would be left, and the router open to all: keep one, or start it anew"
    );
  }
  has_keys_ = !keys.open_to_all();
  generator_->set_policy(policy.routing, policy.prefill_tokens_min);
  gate_->set_rules(policy.admission);
  service_->set_keys(std::move(keys));
  return {};
}

Result<void> RouteInstance::listen() {
  PLEIAD_TRY(
      server,
      net::HttpServer::listen(
          loop_,
          {.address = settings_.host, .port = settings_.port},
          [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
            handle(std::move(request), std::move(responder));
          }
      )
  );
  server_ = std::move(server);
  return {};
}

void RouteInstance::handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  if (request.path.starts_with(WorkerRegistry::kPrefix)) {
    registry_->handle(request, *responder);
  } else if (RouteAdmin::owns(request.path)) {
    admin_->handle(std::move(request), std::move(responder));
  } else {
    service_->handle(std::move(request), std::move(responder));
  }
}

void RouteInstance::reload_policy() {
  if (policy_) loop_.post([this] { policy_->reload(); });
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
