#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace pleiad::apps {

// What main runs for the verb that was given; its value is the exit code.
using Command = std::function<int()>;

// Each adds one verb with its flags to `app`, and sets `chosen` when the verb is given.
void add_serve_command(CLI::App& app, Command& chosen);
void add_route_command(CLI::App& app, Command& chosen);
void add_chat_command(CLI::App& app, Command& chosen);
void add_plan_command(CLI::App& app, Command& chosen);
void add_inspect_command(CLI::App& app, Command& chosen);
void add_quantize_command(CLI::App& app, Command& chosen);

}  // namespace pleiad::apps
