#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "apps/commands.h"
#include "apps/config_arguments.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app("pleiad: serves Mixture-of-Experts language models", "pleiad");
  app.set_version_flag("--version", "pleiad " PLEIAD_VERSION);
  app.require_subcommand(1);
  pleiad::apps::Command chosen;
  pleiad::apps::add_serve_command(app, chosen);
  pleiad::apps::add_route_command(app, chosen);
  pleiad::apps::add_chat_command(app, chosen);
  pleiad::apps::add_plan_command(app, chosen);
  pleiad::apps::add_inspect_command(app, chosen);
  pleiad::apps::add_quantize_command(app, chosen);
  app.add_subcommand("version", "Print the version")->callback([&chosen] {
    chosen = [] {
      std::puts("pleiad " PLEIAD_VERSION);
      return 0;
    };
  });
  std::string notes;
  auto arguments = pleiad::apps::with_config_file({argv + 1, argv + argc}, notes);
  if (!arguments.ok()) {
    fmt::print(stderr, "pleiad: {}\n", arguments.error().message);
    return 2;
  }
  fmt::print("{}", notes);
  // CLI11 takes its arguments from the back.
  std::ranges::reverse(*arguments);
  try {
    app.parse(*arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return chosen();
}

}  // namespace

// Nothing of ours throws; what a library still lets out ends the process with a line, not a core.
int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pleiad: %s\n", error.what());
    return 1;
  }
}
