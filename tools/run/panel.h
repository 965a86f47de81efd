// A panel: many series in one file (--panel global), on which one model of single series is trained.
//
// Each series is split by its own rows and scaled by its own training rows. The engine sees one channel, in which the
// rows that windows are taken from stand one behind another, a hole between any two pieces:
//
//   training part                   validation part                    test part
//   training rows of each series    L rows before and validation ...   L rows before and test rows of each
//
// A series too short for a window of validation or test is trained on as a whole (with a split by ratio), one too short
// for any window is only forecast. One that hardly varies in its training rows has no validation and test windows
// (--late). A series' rows before its validation rows may be fewer than L: its windows then begin with its first row.
//
// A forecast takes each series' own last L rows; where there are fewer, their mean stands before them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tools/run/experiment.h"

namespace samformer::tools {

// What a checkpoint knows of the series it was trained on.
struct PanelScale {
  std::vector<std::string> ids;
  model::Scaler scaler;            // [ids]
  std::vector<std::string> until;  // date of each's last training row
  std::vector<std::uint8_t> late;  // 1: hardly varies in its training rows, so that it is in no error
};

struct Panel {
  // Rows of one series in the experiment's channel.
  struct Piece {
    std::int64_t member = 0;  // of `file.panel`
    model::Span rows;         // in the channel
    std::int64_t source = 0;  // the first one in `file`
  };

  model::Series file;                // in its own order, one series behind another
  std::vector<model::Splits> parts;  // of each series, rows of `file`
  std::vector<model::Span> trained;  // of each: the rows of its scaler
  model::Scaler scaler;              // of each; 0 deviation: there are no rows
  std::vector<std::uint8_t> late;    // of each: PanelScale::late
  std::vector<Piece> pieces;         // by rows
  std::int64_t series = 0, tested = 0;

  // That a window is of.
  const Piece& piece_at(std::int64_t row) const;
  const std::string& id_at(std::int64_t row) const {
    return file.panel[static_cast<std::size_t>(piece_at(row).member)].id;
  }
  PanelScale scale() const;
};

// Splits of every series, and in `settings` look-back and horizon where they are `auto`: the longest look-back at which
// half of the series have the training windows that default_lookback() asks for, else at least one. Exit::usage for a
// rule that is not of ratio or dates.
std::vector<model::Splits> panel_splits(const model::Series& file, DataSettings& settings);
// Windows of each part over all series, and of how many series they are.
struct PanelWindows {
  std::int64_t train = 0, val = 0, test = 0;
  std::int64_t trained = 0, tested = 0, unused = 0;  // series; unused: without any window
};
PanelWindows count_windows(const model::Series& file, std::span<const model::Splits> parts, std::int64_t lookback,
                           std::int64_t horizon);
// "of 40 series 34 are trained on and tested, 3 trained on alone, 3 only forecast: ..."; empty where all are all.
std::string panel_text(const model::Series& file, const PanelWindows& windows);
// Throws Exit::data where a part has no window.
void check_panel(const model::Series& file, std::span<const model::Splits> parts, const PanelWindows& windows,
                 std::int64_t lookback, std::int64_t horizon);

// The experiment of a panel. `stored`: the scale of the series that a checkpoint knows; the others have that of their own
// training rows, or of all where they have none.
Experiment panel_experiment(model::Series file, std::vector<model::Splits> parts, const DataSettings& settings,
                            const PanelScale* stored = nullptr);
// The same with every row in the training part, and scaled by all.
Experiment panel_of_all_rows(const Panel& panel, std::int64_t season, const PanelScale* stored = nullptr);

// Windows whose targets come after the rows that each series was trained on, all of a series that was not, up to the row
// of `until` (null: all) in the training part.
Experiment panel_after_training(const model::Series& file, std::int64_t lookback, std::int64_t horizon,
                                const PanelScale& scale, const model::Stamp* until = nullptr);

// The newest windows of every series, one behind another, in the scale that a checkpoint has for it, or in that of the
// given rows.
struct PanelEnds {
  model::Series series;              // [L + H rows of each]; of the H steps that are forecast the dates alone
  model::MarkedValues values;        // standardised
  model::Scaler scaler;              // of each
  std::vector<std::int64_t> member;  // of `file.panel`
  std::vector<std::int64_t> origin;  // its row in `file`
  std::vector<std::int32_t> starts;
  std::vector<std::string> padded, unseen, left_out;  // ids: fewer than L rows, not trained on, no row up to the origin
};
// `until`: the origin; rows after it are not looked at. Null: the last rows.
PanelEnds panel_ends(const model::Series& file, std::int64_t lookback, std::int64_t horizon, const PanelScale& scale,
                     const model::Stamp* until = nullptr);

}  // namespace samformer::tools
