#include "base/exposition.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.h"

namespace pleiad {
namespace {

constexpr std::string_view kHelp = "# HELP ";
constexpr std::string_view kType = "# TYPE ";
constexpr std::array<std::string_view, 3> kTypeNames = {"counter", "gauge", "histogram"};

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_label_name(std::string_view name) {
  const auto fits = [](char c) { return is_letter(c) || is_digit(c); };
  return !name.empty() && is_letter(name.front()) && std::ranges::all_of(name, fits);
}

bool is_metric_name(std::string_view name) {
  const auto fits = [](char c) { return is_letter(c) || is_digit(c) || c == ':'; };
  return !name.empty() && !is_digit(name.front()) && std::ranges::all_of(name, fits);
}

// As MetricsRegistry writes numbers.
bool is_number(std::string_view text) {
  if (text == "NaN" || text == "+Inf" || text == "-Inf") return true;
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  if (digits.empty() || !is_digit(digits.front())) return false;
  double value = 0.0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc{} && end == text.data() + text.size();
}

// Takes the front of `rest` up to `end`, and `end` with it; nothing when `end` does not come.
std::optional<std::string_view> take_until(std::string_view& rest, char end) {
  const std::size_t at = rest.find(end);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view taken = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  return taken;
}

// Takes a label's value, as it is escaped, and the quote behind it.
std::optional<std::string_view> take_value(std::string_view& rest) {
  const std::string_view all = rest;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] == '"') {
      rest.remove_prefix(i + 1);
      return all.substr(0, i);
    }
    if (all[i] != '\\') continue;
    ++i;
    const bool known = i < all.size() && (all[i] == '\\' || all[i] == '"' || all[i] == 'n');
    if (!known) return std::nullopt;
  }
  return std::nullopt;
}

// Takes `{a="1",b="2"}`, or nothing at all where there is no brace.
Result<std::vector<std::pair<std::string_view, std::string_view>>> take_labels(
    std::string_view& rest
) {
  std::vector<std::pair<std::string_view, std::string_view>> labels;
  if (!rest.starts_with('{')) return labels;
  do {
    rest.remove_prefix(1);  // the brace, or a comma
    const auto name = take_until(rest, '=');
    if (!name || !is_label_name(*name) || !rest.starts_with('"')) {
      return corrupt("metrics with a label that has no name");
    }
    rest.remove_prefix(1);
    const auto value = take_value(rest);
    if (!value) return corrupt("metrics with a label {} without an end", *name);
    const auto same = [&](const auto& label) { return label.first == *name; };
    if (std::ranges::any_of(labels, same)) return corrupt("metrics with two labels {}", *name);
    labels.emplace_back(*name, *value);
  } while (rest.starts_with(','));
  if (!rest.starts_with('}')) return corrupt("metrics with labels that do not end");
  rest.remove_prefix(1);
  return labels;
}

bool is_name_of(const MetricFamily& family, std::string_view name) {
  if (!name.starts_with(family.name)) return false;
  const std::string_view suffix = name.substr(family.name.size());
  if (family.type != MetricType::Histogram) return suffix.empty();
  return suffix == "_bucket" || suffix == "_sum" || suffix == "_count";
}

// Checks one line of `family`; returns what names the series in it.
Result<std::string_view>
check_sample(std::string_view line, const MetricFamily& family, const LabelRule& rule) {
  std::string_view rest = line;
  const std::string_view name = line.substr(0, line.find_first_of("{ "));
  if (!is_name_of(family, name)) return corrupt("metrics with a stranger among {}", family.name);
  rest.remove_prefix(name.size());
  PLEIAD_TRY(labels, take_labels(rest));
  const std::string_view series = line.substr(0, line.size() - rest.size());
  const auto ruled = [&](const auto& label) { return label.first == rule.name; };
  const auto found = std::ranges::find_if(labels, ruled);
  if (found == labels.end() || std::ranges::find(rule.values, found->second) == rule.values.end()) {
    return corrupt("metrics of another {} among {}", rule.name, family.name);
  }
  if (!rest.starts_with(' ') || !is_number(rest.substr(1))) {
    return corrupt("metrics without a number among {}", family.name);
  }
  return series;
}

// Reads HELP, whose line is `line`, and TYPE, which is the next of `rest`.
Result<MetricFamily> take_head(std::string_view line, std::string_view& rest) {
  line.remove_prefix(kHelp.size());
  const auto name = take_until(line, ' ');
  if (!name || !is_metric_name(*name)) return corrupt("metrics with a family that has no name");
  MetricFamily family{.name = std::string(*name), .help = std::string(line), .samples = {}};
  auto type = take_until(rest, '\n');
  const std::string head = fmt::format("{}{} ", kType, family.name);
  if (!type || !type->starts_with(head)) return corrupt("metrics without the type of {}", *name);
  type->remove_prefix(head.size());
  const auto known = std::ranges::find(kTypeNames, *type);
  if (known == kTypeNames.end()) return corrupt("metrics with another type of {}", *name);
  family.type = static_cast<MetricType>(known - kTypeNames.begin());
  return family;
}

}  // namespace

std::string to_text(const Exposition& exposition) {
  std::string out;
  for (const MetricFamily& family : exposition) {
    const std::string_view type = kTypeNames[static_cast<std::size_t>(family.type)];
    out += fmt::format("{}{} {}\n", kHelp, family.name, family.help);
    out += fmt::format("{}{} {}\n", kType, family.name, type);
    out += family.samples;
  }
  return out;
}

Exposition merged(Exposition own, std::span<const Exposition> others) {
  std::unordered_map<std::string, std::size_t> places;
  for (const MetricFamily& family : own) {
    places.emplace(family.name, places.size());
  }
  for (const Exposition& other : others) {
    for (const MetricFamily& family : other) {
      const auto [place, first] = places.emplace(family.name, own.size());
      if (first) {
        own.push_back(family);
      } else if (own[place->second].type == family.type) {
        own[place->second].samples += family.samples;
      }
    }
  }
  return own;
}

Result<Exposition> parse_exposition(std::string_view text, const LabelRule& rule) {
  if (!is_valid_utf8(text)) return corrupt("metrics that are not UTF-8");
  if (text.find('\0') != std::string_view::npos) return corrupt("metrics with a zero byte");
  Exposition out;
  std::unordered_set<std::string> families;
  std::unordered_set<std::string_view> series;
  for (std::string_view rest = text; !rest.empty();) {
    const auto line = take_until(rest, '\n');
    if (!line) return corrupt("metrics that end within a line");
    if (line->starts_with(kHelp)) {
      PLEIAD_TRY(family, take_head(*line, rest));
      if (!families.insert(family.name).second) {
        return corrupt("metrics with {} in two places", family.name);
      }
      out.push_back(std::move(family));
      continue;
    }
    if (out.empty()) return corrupt("metrics without a family");
    PLEIAD_TRY(named, check_sample(*line, out.back(), rule));
    if (!series.insert(named).second) return corrupt("metrics with {} twice", named);
    out.back().samples += *line;
    out.back().samples += '\n';
  }
  return out;
}

}  // namespace pleiad
