#include "apps/serve_instance.h"

#include <filesystem>
#include <utility>

#include <fmt/core.h>

#include "apps/exposure.h"
#include "apps/start_canary.h"
#include "base/log.h"
#include "base/random.h"
#include "model/model.h"
#include "model/model_config.h"

namespace pleiad::apps {
namespace {

// What config.json says, before anything large is read.
Result<std::int64_t> vocabulary_of(const std::filesystem::path& folder) {
  PLEIAD_TRY(config, model::read_model_config(folder));
  PLEIAD_TRY(architecture, model::find_architecture(config));
  PLEIAD_TRY(shape, architecture->shape(config, model::Compute::Float32));
  return shape.vocabulary;
}

// A tokenizer may have fewer tokens than the model has rows for them, which are often padded.
Result<void> check_vocabulary(const server::ModelText& text, std::int64_t vocabulary) {
  if (!text.tokenizer) return {};
  const auto tokens = static_cast<std::int64_t>(text.tokenizer->vocab_size());
  if (tokens <= vocabulary) return {};
  return invalid_input(
      "tokenizer.json has ids up to {}, config.json's vocab_size is {}: they are not of one "
      "checkpoint",
      tokens - 1,
      vocabulary
  );
}

std::string folder_name(const std::filesystem::path& model) {
  const auto absolute = std::filesystem::weakly_canonical(model);
  return absolute.filename().string();
}

}  // namespace

std::string model_name_of(const ServeSettings& settings) {
  if (!settings.served_names.empty()) return settings.served_names.front();
  return folder_name(settings.load.model);
}

Result<void> check_group_settings(const ServeSettings& settings) {
  const plan::ParallelLayout& layout = settings.load.layout;
  PLEIAD_TRY(check_role(
      settings.hand_over.role,
      {.secret = !settings.cluster_secret.empty(),
       .nodes = layout.nnodes,
       .gpu = settings.load.gpu.has_value()}
  ));
  if (layout.nnodes == 1) return {};
  if (settings.dist_init_addr.empty()) {
    return invalid_input(
        "--nnodes {} needs --dist-init-addr HOST:PORT, where node 0 listens for the others",
        layout.nnodes
    );
  }
  if (settings.cluster_secret.empty()) {
    return invalid_input(
        "--nnodes {} needs the cluster's secret: --cluster-secret-file, or env "
        "PLEIAD_CLUSTER_SECRET",
        layout.nnodes
    );
  }
  return {};
}

Result<void> check_register_settings(const ServeSettings& settings) {
  if (settings.routers.empty()) {
    if (settings.register_url.empty()) return {};
    return invalid_input("--register-url says how routers of --register reach this worker");
  }
  if (settings.cluster_secret.empty()) {
    return invalid_input(
        "--register needs the cluster's secret: --cluster-secret-file, or env "
        "PLEIAD_CLUSTER_SECRET, here and on the routers"
    );
  }
  const bool any = settings.host == "0.0.0.0" || settings.host == "::";
  if (any && settings.register_url.empty()) {
    return invalid_input(
        "--host {} is no address that a router can reach: give --register-url "
        "http://THIS-HOST:{}",
        settings.host,
        settings.port
    );
  }
  if (settings.register_url.empty()) return {};
  auto url = net::parse_url(settings.register_url);
  if (!url.ok()) return with_context(std::move(url).error(), "--register-url");
  return {};
}

engine::GroupOptions
group_options(const ServeSettings& settings, const engine::LoadedModel& model) {
  engine::GroupOptions out{
      .layout = settings.load.layout,
      .version = PLEIAD_VERSION,
      .agreement = engine::agreement_of(settings.load, model),
      .rendezvous = {.address = settings.dist_init_addr, .secret = settings.cluster_secret},
      .ucx = settings.ucx,
      .limit = settings.step_timeout,
      .on_waiting = [](const std::string& what) { PLEIAD_LOG(Info, "{}", what); },
  };
  out.ucx.limit = settings.step_timeout;
  return out;
}

StartReport report_of(const engine::LoadedModel& model, const plan::ParallelLayout& layout) {
  const engine::EngineParts& first = model.ranks.front();
  const bool wide = model.compute == model::Compute::Float32;
  const std::size_t rank_kv_bytes =
      first.cache.shape().page_bytes_all_layers() * static_cast<std::size_t>(first.limits.pages);
  return {
      .architecture = model.architecture,
      .compute = wide ? "float32" : "bfloat16",
      .isa = model.gpu.empty() ? std::string(device::to_string(model.isa)) : model.gpu,
      .threads = first.pool->workers(),
      .read_seconds = model.read_seconds,
      .pack_seconds = model.pack_seconds,
      .prepare_seconds = model.prepare_seconds,
      .cache_seconds = model.cache_seconds,
      .record_seconds = model.record_seconds,
      .phases = model.phases,
      .layout = layout,
      .ranks_here = static_cast<std::int32_t>(model.ranks.size()),
      .weight_bytes = model.weight_bytes,
      .scratch = model.scratch,
      .kv_bytes = rank_kv_bytes * model.ranks.size(),
      .pages = first.limits.pages,
      .model_tokens = first.limits.sequence_tokens_max,
  };
}

Result<std::unique_ptr<ServeInstance>>
ServeInstance::start(ServeSettings settings, const std::stop_token& stop) {
  PLEIAD_TRY(check_group_settings(settings));
  PLEIAD_TRY(check_register_settings(settings));
  PLEIAD_TRY(check_exposure({settings.host, settings.api_keys, settings.allow_unauthenticated}));
  auto instance = std::unique_ptr<ServeInstance>(new ServeInstance(std::move(settings)));
  PLEIAD_TRY(instance->listen());
  PLEIAD_TRY(instance->open_registration());
  PLEIAD_TRY(instance->load(stop));
  return instance;
}

ServeInstance::ServeInstance(ServeSettings settings)
    : settings_(std::move(settings)), instance_(fmt::format("{:016x}", entropy_seed())) {
  model_name_ = model_name_of(settings_);
  if (settings_.served_names.empty()) settings_.served_names = {model_name_};
  settings_.load.model_name = model_name_;
  settings_.text.model = settings_.load.model;
  // Only who computes for others has something to read.
  settings_.load.share_caches =
      settings_.hand_over.role == api::Role::Prefill && settings_.hand_over.share_memory;
}

ServeInstance::~ServeInstance() {
  loop_.stop();
  text_loop_.stop();
  if (loop_thread_.joinable()) loop_thread_.join();
  if (text_thread_.joinable()) text_thread_.join();
  // The ranks' last events go to sessions of the service, so they go first.
  keeper_.reset();
  ranks_.reset();
  prefill_client_.reset();
  peers_.reset();
  service_.reset();
  registration_.reset();
  server_.reset();
}

Result<void> ServeInstance::listen() {
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
  loop_thread_ = std::thread([this] { loop_.run(); });
  text_thread_ = std::thread([this] { text_loop_.run(); });
  return {};
}

void ServeInstance::handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  server::OpenaiService* service = ready_service_.load();
  if (service != nullptr && peers_ && request.path.starts_with(server::PeerApi::kPrefix)) {
    peers_->handle(std::move(request), std::move(responder));
    return;
  }
  if (service != nullptr) {
    service->handle(std::move(request), std::move(responder));
    return;
  }
  if (request.path == "/live") {
    responder->respond({.status = 200, .body = "{\"status\":\"loading\"}"});
    return;
  }
  responder->respond(server::error_response(server::from_error(unavailable("the model is loading")))
  );
}

Result<void> ServeInstance::load(const std::stop_token& stop) {
  const Nanoseconds begin = clock_.now();
  PLEIAD_TRY(vocabulary, vocabulary_of(settings_.load.model));
  PLEIAD_TRY(text, load_model_text(settings_.text));
  PLEIAD_TRY(check_vocabulary(text, vocabulary));
  api::Sampling sampling;
  if (!settings_.ignore_generation_config) {
    PLEIAD_TRY(defaults, load_default_sampling(settings_.load.model));
    sampling = defaults;
  }
  PLEIAD_TRY(loaded, engine::load_model(settings_.load, clock_));
  text_ = std::move(text);
  report_ = report_of(loaded, settings_.load.layout);
  report_.dummy_weights = settings_.load.dummy_weights;
  report_.token_ids_only = !text_.tokenizer.has_value();
  const engine::GroupOptions group = group_options(settings_, loaded);
  const engine::HandOverSettings hand_over = hand_over_settings(loaded);
  ranks_ = std::make_unique<engine::RankSet>(std::move(loaded), clock_, metrics_, hand_over);
  PLEIAD_TRY(keeper, engine::GroupKeeper::start(*ranks_, group));
  keeper_ = std::move(keeper);
  PLEIAD_TRY(form_and_try(stop));
  service_ = std::make_unique<server::OpenaiService>(
      server::ServiceParts{
          .loop = &loop_,
          .text_loop = &text_loop_,
          .generator = keeper_.get(),
          .text = &text_,
          .metrics = &metrics_,
          .clock = &clock_,
      },
      server::ServiceOptions{
          .model_names = settings_.served_names,
          .version = PLEIAD_VERSION,
          .api_keys = settings_.api_keys,
          .default_sampling = sampling,
          .ep_report = [keeper = keeper_.get()] { return keeper->ep_report(); },
          .other_metrics = [keeper = keeper_.get()] { return keeper->node_metrics(); },
      }
  );
  if (!settings_.cluster_secret.empty()) offer_to_peers();
  report_.ready_seconds = to_seconds(clock_.now() - begin);
  ready_service_.store(service_.get());
  if (registration_) loop_.post([this] { registration_->start(); });
  return {};
}

Result<void> ServeInstance::open_registration() {
  if (settings_.routers.empty()) return {};
  auto made = server::RouterRegistration::create(
      loop_,
      {.routers = settings_.routers,
       .url = settings_.register_url.empty() ? url() : settings_.register_url,
       .secret = settings_.cluster_secret}
  );
  if (!made.ok()) return with_context(std::move(made).error(), "--register");
  registration_ = *std::move(made);
  return {};
}

void ServeInstance::offer_to_peers() {
  server::PeerApi::Options options{
      .secret = settings_.cluster_secret, .instance = instance_, .report = [this] {
        return worker_report();
      }};
  if (settings_.hand_over.role == api::Role::Prefill) {
    options.prefill_offer = [this] { return ranks_->prefill_offer(); };
  }
  peers_ = std::make_unique<server::PeerApi>(*keeper_, loop_, std::move(options));
}

engine::HandOverSettings ServeInstance::hand_over_settings(const engine::LoadedModel& model) {
  const HandOverChoice& choice = settings_.hand_over;
  if (choice.role == api::Role::Decode) {
    prefill_client_ = std::make_unique<server::PrefillClient>(server::PrefillClient::Options{
        .secret = settings_.cluster_secret});
  }
  return {
      .role = choice.role,
      .identity = identity_of(model),
      .instance = instance_,
      .source = prefill_client_.get(),
      .share_memory = choice.share_memory,
      .lease = choice.lease,
  };
}

// A node that is lost before the canary has ended is waited for like any other.
Result<void> ServeInstance::form_and_try(const std::stop_token& stop) {
  const std::stop_callback on_stop(stop, [this] { keeper_->stop(); });
  for (;;) {
    PLEIAD_TRY(keeper_->wait_until_formed());
    auto tried = StartCanary(*keeper_).run();
    if (tried.ok() || tried.error().kind != ErrorKind::Unavailable) return tried;
    PLEIAD_LOG(Warning, "the start canary is asked again: {}", tried.error().message);
  }
}

api::WorkerReport::Identity ServeInstance::identity_of(const engine::LoadedModel& model) const {
  return {
      .version = PLEIAD_VERSION,
      .model = model_name_,
      .digest = model.digest,
      .compute = engine::arithmetic_of(model),
      .page_tokens = sched::kPageTokens,
  };
}

api::WorkerReport ServeInstance::worker_report() const {
  return {
      .instance = instance_,
      .identity = identity_of(ranks_->model()),
      .role = settings_.hand_over.role,
      .limits = keeper_->limits(),
      .accepting = keeper_->status().accepting,
      .ranks = keeper_->status_of_ranks(),
  };
}

std::string ServeInstance::url() const {
  return listening_url(settings_.host, server_->port());
}

void ServeInstance::drain(net::Task on_drained) {
  loop_.post([this, on_drained = std::move(on_drained)]() mutable {
    service_->begin_drain();
    keeper_->stop_accepting();
    if (!registration_) {
      server_->close_listener(std::move(on_drained));
      return;
    }
    registration_->leave([this, on_drained = std::move(on_drained)]() mutable {
      server_->close_listener(std::move(on_drained));
    });
  });
}

}  // namespace pleiad::apps
