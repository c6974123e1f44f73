#include "engine/step_batch.h"

#include <vector>

#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

sched::SchedulerOptions options() {
  return {
      .pages = 8,
      .running_max = 2,
      .waiting_max = 4,
      .step_tokens_max = 100,
      .chunk_tokens_max = 70,
      .logit_rows_max = 8,
      .sequence_tokens_max = 200,
  };
}

TEST(StepBatch, LaysChunksOutOneRowAToken) {
  sched::Scheduler scheduler(options());
  const auto first = *scheduler.add({.prompt = {10, 11, 12}, .max_tokens = 4});
  const auto second = *scheduler.add({.prompt = std::vector<TokenId>(90, 20), .max_tokens = 4});
  const auto plan = scheduler.plan_step();
  StepBatch step(100, 8, 5);

  step.assemble(scheduler, plan);
  const model::Batch batch = step.batch();

  ASSERT_EQ(step.rows(), 3 + 70);
  EXPECT_EQ(batch.tokens[2], 12U);
  EXPECT_EQ(batch.tokens[3], 20U);
  EXPECT_EQ(batch.positions[2], 2);
  EXPECT_EQ(batch.positions[3], 0);
  EXPECT_EQ(batch.rows[72].position, 69);
  EXPECT_EQ(batch.rows[0].page_table[0], scheduler.pages(first)[0].value());
  EXPECT_EQ(batch.rows[72].page_table[1], scheduler.pages(second)[1].value());
  // Only the first sequence ends here; the second goes on with its prompt.
  ASSERT_EQ(batch.logit_rows.size(), 1U);
  EXPECT_EQ(batch.logit_rows[0], 2);
}

TEST(StepBatch, ScoringAPromptAsksForEveryRow) {
  sched::Scheduler scheduler(options());
  ASSERT_TRUE(scheduler.add({.prompt = {1, 2, 3, 4}, .max_tokens = 0, .score_prompt = true}).ok());
  StepBatch step(100, 8, 5);

  step.assemble(scheduler, scheduler.plan_step());

  EXPECT_EQ(step.batch().logit_rows.size(), 4U);
  EXPECT_EQ(step.first_logit_row(0), 0U);
  EXPECT_EQ(step.logits(3).size(), 5U);
}

}  // namespace
}  // namespace pleiad::engine
