// strftime_now() without a locale.
#include <array>

#include <fmt/format.h>

#include "text/detail/jinja_interpreter.h"

namespace pleiad::text::detail {
namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::sys_days;
using std::chrono::year_month_day;

constexpr std::array<std::string_view, 12> kMonths = {
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December"};
constexpr std::array<std::string_view, 7> kWeekdays =
    {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
constexpr std::size_t kShortName = 3;

struct Civil {
  int year = 0;
  unsigned month = 1;
  unsigned day = 1;
  unsigned weekday = 0;
  unsigned day_of_year = 1;
  unsigned hour = 0;
  unsigned minute = 0;
  unsigned second = 0;
};

Civil civil_of(std::chrono::sys_seconds date) {
  const sys_days day = floor<days>(date);
  const year_month_day calendar(day);
  const auto seconds = static_cast<unsigned>((date - day).count());
  const sys_days new_year = calendar.year() / std::chrono::January / 1;
  return {
      .year = static_cast<int>(calendar.year()),
      .month = static_cast<unsigned>(calendar.month()),
      .day = static_cast<unsigned>(calendar.day()),
      .weekday = std::chrono::weekday(day).c_encoding(),
      .day_of_year = static_cast<unsigned>((day - new_year).count()) + 1,
      .hour = seconds / 3600,
      .minute = seconds / 60 % 60,
      .second = seconds % 60,
  };
}

// A number of at least `width` digits; "%-d" asks for no padding.
std::string padded(unsigned value, int width, bool plain) {
  return plain ? std::to_string(value) : fmt::format("{:0{}}", value, width);
}

Result<std::string> conversion(char kind, bool plain, const Civil& civil) {
  const unsigned twelve = civil.hour % 12 == 0 ? 12 : civil.hour % 12;
  const auto two_digits = static_cast<unsigned>(civil.year % 100);
  switch (kind) {
    case 'Y':
      return std::to_string(civil.year);
    case 'y':
      return padded(two_digits, 2, plain);
    case 'm':
      return padded(civil.month, 2, plain);
    case 'd':
      return padded(civil.day, 2, plain);
    case 'e':
      return plain ? std::to_string(civil.day) : fmt::format("{:2}", civil.day);
    case 'j':
      return padded(civil.day_of_year, 3, plain);
    case 'H':
      return padded(civil.hour, 2, plain);
    case 'I':
      return padded(twelve, 2, plain);
    case 'M':
      return padded(civil.minute, 2, plain);
    case 'S':
      return padded(civil.second, 2, plain);
    case 'p':
      return std::string(civil.hour < 12 ? "AM" : "PM");
    case 'B':
      return std::string(kMonths[civil.month - 1]);
    case 'b':
    case 'h':
      return std::string(kMonths[civil.month - 1].substr(0, kShortName));
    case 'A':
      return std::string(kWeekdays[civil.weekday]);
    case 'a':
      return std::string(kWeekdays[civil.weekday].substr(0, kShortName));
    case 'w':
      return std::to_string(civil.weekday);
    case 'F':
      return fmt::format("{}-{:02}-{:02}", civil.year, civil.month, civil.day);
    case 'T':
      return fmt::format("{:02}:{:02}:{:02}", civil.hour, civil.minute, civil.second);
    case 'Z':
      return std::string();
    case '%':
      return std::string("%");
    default:
      return unsupported("strftime_now conversion %{}", kind);
  }
}

}  // namespace

Result<std::string> format_date(std::string_view format, std::chrono::sys_seconds date) {
  const Civil civil = civil_of(date);
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const bool plain = format.substr(i + 1, 1) == "-";
    i += plain ? 2 : 1;
    if (i >= format.size()) return invalid_input("strftime_now: incomplete conversion");
    PLEIAD_TRY(text, conversion(format[i], plain, civil));
    out += text;
  }
  return out;
}

}  // namespace pleiad::text::detail
