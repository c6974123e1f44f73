#pragma once

#include "model/config_reader.h"
#include "model/decoder_config.h"

namespace pleiad::model {

// Notes the first member of `reader`'s object that would change what `out` computes and that the
// family's parser, which must have run, did not read: a switch of another family, say. Members that
// leave the maths alone, known or not, pass.
void refuse_uncomputed_keys(ConfigReader& reader, const DecoderConfig& out);

}  // namespace pleiad::model
