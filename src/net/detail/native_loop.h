#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "net/event_loop.h"

namespace pleiad::net {

namespace asio = boost::asio;

// One thread runs the context; others only post to it.
struct EventLoop::Native {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);
};

}  // namespace pleiad::net
