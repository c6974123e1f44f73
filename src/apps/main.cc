#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>

#include "apps/commands.h"

int main(int argc, char** argv) {
  CLI::App app("pleiad: serves Mixture-of-Experts language models", "pleiad");
  app.set_version_flag("--version", "pleiad " PLEIAD_VERSION);
  app.require_subcommand(1);
  pleiad::apps::Command chosen;
  pleiad::apps::add_serve_command(app, chosen);
  pleiad::apps::add_chat_command(app, chosen);
  pleiad::apps::add_plan_command(app, chosen);
  app.add_subcommand("version", "Print the version")->callback([&chosen] {
    chosen = [] {
      std::puts("pleiad " PLEIAD_VERSION);
      return 0;
    };
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return chosen();
}
