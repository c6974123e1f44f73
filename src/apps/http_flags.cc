#include "apps/http_flags.h"

#include <CLI/CLI.hpp>

namespace pleiad::apps {

void add_http_flags(CLI::App& verb, const HttpFlags& flags) {
  verb.add_option("--host", flags.host, "Address to listen on; beyond loopback a key is needed")
      ->capture_default_str();
  verb.add_option("--port", flags.port, "TCP port; 0 takes a free one")->capture_default_str();
  verb.add_option(
      "--api-key",
      flags.api_keys,
      "Key that clients must send; repeatable (also env PLEIAD_API_KEY)"
  );
  verb.add_option("--api-key-file", flags.key_file, "File with one key a line");
  verb.add_flag(
      "--allow-unauthenticated", flags.allow_unauthenticated, "Listen beyond loopback without a key"
  );
  verb.add_option(
          "--served-model-name", flags.served_names, "Names clients may use; the first is told"
  )
      ->default_str("the folder's name");
  verb.add_option(
          "--drain-timeout",
          flags.drain_timeout_seconds,
          "Seconds that SIGTERM waits for open requests"
  )
      ->capture_default_str();
  verb.add_option("--log-level", flags.log_level, "What is logged")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
}

}  // namespace pleiad::apps
