#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "apps/commands.h"
#include "apps/model_inspection.h"

namespace pleiad::apps {
namespace {

struct InspectFlags {
  std::string model;
  bool json = false;
};

// 0 when the folder could be served, 1 otherwise.
int print_inspection(const InspectFlags& flags) {
  const ModelInspection inspection = inspect_model(flags.model);
  fmt::print("{}", flags.json ? to_json(inspection).dump() + "\n" : to_text(inspection));
  return inspection.problems.empty() ? 0 : 1;
}

}  // namespace

void add_inspect_command(CLI::App& app, Command& chosen) {
  CLI::App* verb =
      app.add_subcommand("inspect", "Tell what a model folder holds, and what would be refused");
  // Shared by the parser, which fills it, and the command, which runs after.
  auto flags = std::make_shared<InspectFlags>();
  verb->add_option("model", flags->model, "Hugging Face model folder")->required();
  verb->add_flag("--json", flags->json, "Print JSON");
  verb->callback([&chosen, flags] { chosen = [flags] { return print_inspection(*flags); }; });
}

}  // namespace pleiad::apps
