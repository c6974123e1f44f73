#include "apps/serve_node.h"

#include <utility>

namespace pleiad::apps {

Result<std::unique_ptr<ServeNode>> ServeNode::start(const ServeSettings& settings) {
  PLEIAD_TRY(check_group_settings(settings));
  auto node = std::unique_ptr<ServeNode>(new ServeNode());
  const Nanoseconds begin = node->clock_.now();
  engine::LoadSettings load = settings.load;
  load.model_name = model_name_of(settings);
  PLEIAD_TRY(loaded, engine::load_model(load, node->clock_));
  node->report_ = report_of(loaded, load.layout);
  node->report_.ready_seconds = to_seconds(node->clock_.now() - begin);
  const engine::GroupOptions group = group_options(settings, loaded);
  node->ranks_ = std::make_unique<engine::RankSet>(std::move(loaded), node->clock_, node->metrics_);
  node->member_ = std::make_unique<engine::GroupMember>(*node->ranks_, group);
  return node;
}

}  // namespace pleiad::apps
