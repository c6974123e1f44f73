#include "tests/comm/rank_runner.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <thread>

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "comm/local_group.h"
#include "comm/ucx_group.h"

namespace pleiad::comm {
namespace {

constexpr unsigned kRunSecondsMax = 120;
constexpr std::uint32_t kEpoch = 7;

std::size_t index_of(Rank rank) {
  return static_cast<std::size_t>(rank);
}

UcxGroupOptions ucx_options(const RankRun& run) {
  return {
      .limit = run.limit, .spin = run.transport.spin, .transports = run.transport.ucx_transports};
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

void join_and_run(
    std::unique_ptr<UcxEndpoint> endpoint,
    Rank rank,
    const std::vector<std::vector<std::byte>>& addresses,
    const RankBody& body,
    pthread_barrier_t& all_joined,
    Findings& findings
) {
  auto group = UcxEndpoint::join(std::move(endpoint), rank, addresses, kEpoch);
  pthread_barrier_wait(&all_joined);
  if (!findings.expect(group.ok(), "join: {}", group.ok() ? "" : group.error().message)) return;
  body(**group, findings);
}

void run_local(const RankRun& run, const RankBody& body, std::vector<Findings>& findings) {
  auto ends = make_local_group(run.size, {.limit = run.limit, .spin = run.transport.spin});
  std::vector<std::thread> threads;
  for (Rank rank = 0; rank < run.size; ++rank) {
    threads.emplace_back([&, rank] {
      body(*ends[index_of(rank)], findings[index_of(rank)]);
      ends[index_of(rank)].reset();
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

void run_ucx_threads(const RankRun& run, const RankBody& body, std::vector<Findings>& findings) {
  std::vector<std::unique_ptr<UcxEndpoint>> endpoints;
  std::vector<std::vector<std::byte>> addresses;
  for (Rank rank = 0; rank < run.size; ++rank) {
    auto endpoint = UcxEndpoint::open(ucx_options(run));
    PLEIAD_CHECK(endpoint.ok(), endpoint.ok() ? "" : endpoint.error().message);
    addresses.push_back(copy_of((*endpoint)->address()));
    endpoints.push_back(std::move(*endpoint));
  }
  pthread_barrier_t all_joined;
  pthread_barrier_init(&all_joined, nullptr, static_cast<unsigned>(run.size));
  std::vector<std::thread> threads;
  for (Rank rank = 0; rank < run.size; ++rank) {
    threads.emplace_back([&, rank] {
      auto& mine = findings[index_of(rank)];
      join_and_run(std::move(endpoints[index_of(rank)]), rank, addresses, body, all_joined, mine);
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  pthread_barrier_destroy(&all_joined);
}

// What the processes of one run share.
struct Board {
  struct Place {
    std::size_t address_bytes = 0;
    std::array<std::byte, 16384> address;
    std::array<char, Findings::kTextMax + 1000> text;
    bool done = false;
  };

  pthread_barrier_t everybody;
  std::array<Place, 16> places;
};

[[noreturn]] void run_process(const RankRun& run, const RankBody& body, Rank rank, Board& board) {
  alarm(kRunSecondsMax);
  Findings findings;
  Board::Place& mine = board.places[index_of(rank)];
  {
    auto endpoint = UcxEndpoint::open(ucx_options(run));
    PLEIAD_CHECK(endpoint.ok(), endpoint.ok() ? "" : endpoint.error().message);
    const auto address = (*endpoint)->address();
    PLEIAD_CHECK(address.size() <= mine.address.size(), "an address of a usual size");
    std::copy(address.begin(), address.end(), mine.address.begin());
    mine.address_bytes = address.size();
    pthread_barrier_wait(&board.everybody);
    std::vector<std::vector<std::byte>> addresses;
    for (Rank other = 0; other < run.size; ++other) {
      const Board::Place& place = board.places[index_of(other)];
      addresses.push_back(copy_of(std::span(place.address).first(place.address_bytes)));
    }
    join_and_run(std::move(*endpoint), rank, addresses, body, board.everybody, findings);
  }
  const std::size_t length = std::min(findings.text().size(), mine.text.size() - 1);
  std::copy_n(findings.text().begin(), length, mine.text.begin());
  mine.text[length] = '\0';
  mine.done = true;
  _exit(0);
}

void run_ucx_processes(const RankRun& run, const RankBody& body, std::vector<Findings>& findings) {
  void* memory =
      mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  PLEIAD_CHECK(memory != MAP_FAILED, "shared memory");
  auto& board = *::new (memory) Board{};
  pthread_barrierattr_t shared;
  pthread_barrierattr_init(&shared);
  pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&board.everybody, &shared, static_cast<unsigned>(run.size));
  std::vector<pid_t> children;
  for (Rank rank = 0; rank < run.size; ++rank) {
    const pid_t child = fork();
    PLEIAD_CHECK(child >= 0, "a process");
    if (child == 0) run_process(run, body, rank, board);
    children.push_back(child);
  }
  for (Rank rank = 0; rank < run.size; ++rank) {
    int status = 0;
    waitpid(children[index_of(rank)], &status, 0);
    const Board::Place& place = board.places[index_of(rank)];
    const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    findings[index_of(rank)].expect(signal == 0, "killed by signal {}", signal);
    const bool quiet = !place.done || place.text[0] == '\0';
    findings[index_of(rank)].expect(quiet, "{}", place.text.data());
  }
  pthread_barrierattr_destroy(&shared);
  munmap(memory, sizeof(Board));
}

}  // namespace

void PrintTo(const Transport& transport, std::ostream* out) {
  *out << transport.name;
}

bool Findings::expect(const Result<void>& result) {
  return expect(result.ok(), "{}", result.ok() ? "" : result.error().message);
}

bool Findings::expect_error(
    const Result<void>& result,
    ErrorKind kind,
    const std::vector<std::string>& words
) {
  if (!expect(!result.ok(), "expected {}, got success", to_string(kind))) return false;
  const Error& error = result.error();
  bool right = expect(
      error.kind == kind,
      "expected {}, got {}: {}",
      to_string(kind),
      to_string(error.kind),
      error.message
  );
  for (const std::string& word : words) {
    const bool there = error.message.find(word) != std::string::npos;
    right = expect(there, "no '{}' in: {}", word, error.message) && right;
  }
  return right;
}

std::vector<std::string> run_ranks(const RankRun& run, const RankBody& body) {
  std::vector<Findings> findings(index_of(run.size));
  alarm(kRunSecondsMax);  // a hang is a failure, not a wait
  switch (run.transport.kind) {
    case Transport::Kind::Local:
      run_local(run, body, findings);
      break;
    case Transport::Kind::UcxThreads:
      run_ucx_threads(run, body, findings);
      break;
    case Transport::Kind::UcxProcesses:
      run_ucx_processes(run, body, findings);
      break;
  }
  alarm(0);
  std::vector<std::string> texts;
  texts.reserve(findings.size());
  for (const Findings& found : findings) {
    texts.push_back(found.text());
  }
  return texts;
}

}  // namespace pleiad::comm
