#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <unistd.h>

#include "apps/commands.h"
#include "device/cpu_isa.h"
#include "device/thread_pool.h"
#include "model/checkpoint_quantizer.h"

namespace pleiad::apps {
namespace {

struct QuantizeFlags {
  std::string from;
  std::string to;
  std::string scheme;
  int threads = 0;
};

// One line that is written over where somebody watches, and one line a tenth where nobody does.
class Progress {
 public:
  void operator()(std::uint64_t done, std::uint64_t total) {
    const auto percent = static_cast<int>(done * 100 / std::max<std::uint64_t>(total, 1));
    if (!watched_ && percent / 10 == told_ / 10) return;
    told_ = percent;
    constexpr int kWidth = 40;
    const std::string bar(static_cast<std::size_t>(percent * kWidth / 100), '#');
    fmt::print(
        stderr,
        "{}[{:<{}}] {:3} %  {:.2f} of {:.2f} GB{}",
        watched_ ? "\r" : "",
        bar,
        kWidth,
        percent,
        static_cast<double>(done) * 1e-9,
        static_cast<double>(total) * 1e-9,
        watched_ && done < total ? "" : "\n"
    );
  }

 private:
  bool watched_ = ::isatty(STDERR_FILENO) == 1;
  int told_ = -10;
};

int quantize(const QuantizeFlags& flags) {
  const int threads = flags.threads > 0 ? flags.threads : device::available_processors();
  device::ThreadPool pool(threads);
  const auto report = model::quantize_checkpoint(
      flags.from,
      flags.to,
      {.scheme = *weights::parse_quant_scheme(flags.scheme), .pool = &pool, .progress = Progress()}
  );
  if (!report.ok()) {
    fmt::print(stderr, "pleiad quantize: {}\n", report.error().message);
    return 1;
  }
  fmt::print(
      "{}: {} matrices as {}, {} tensors kept, {:.2f} GB became {:.2f} GB{}\n",
      flags.to,
      report->quantized,
      flags.scheme,
      report->kept,
      static_cast<double>(report->bytes_before) * 1e-9,
      static_cast<double>(report->bytes_after) * 1e-9,
      report->resumed > 0 ? fmt::format(" ({} files were there already)", report->resumed) : ""
  );
  return 0;
}

}  // namespace

void add_quantize_command(CLI::App& app, Command& chosen) {
  CLI::App* verb =
      app.add_subcommand("quantize", "Write a model folder with its weights in fewer bits");
  // Shared by the parser, which fills it, and the command, which runs after.
  auto flags = std::make_shared<QuantizeFlags>();
  verb->add_option("model", flags->from, "Hugging Face model folder to read")->required();
  verb->add_option(
          "out", flags->to, "Folder to write; one that was cut off is taken up where it ended"
  )
      ->required();
  verb->add_option("--scheme", flags->scheme, "How matrices are stored; mxfp4: experts of gpt-oss")
      ->check(CLI::IsMember({"w8a8", "fp8-block", "int4-g32", "mxfp4"}))
      ->required();
  verb->add_option("--threads", flags->threads, "Threads; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->callback([&chosen, flags] { chosen = [flags] { return quantize(*flags); }; });
}

}  // namespace pleiad::apps
