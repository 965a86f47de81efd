// Charts as SVG text, for a report (tools/report/page.h); tools/scripts/picture.py makes a file of one.
//
// Coordinates are CSS pixels of a drawing 400 wide, small enough that its 12 px text stays readable on a phone. Colours
// are classes of one style sheet (chart_css), which knows light and dark; an image's own colours suit both.
// Values that are not finite are gaps.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace samformer::tools {

// Text with &, <, > and quotes escaped.
std::string escape_xml(std::string_view text);
// A number for people: four significant digits, no trailing zeros.
std::string short_number(double value);

// The colours and strokes of all charts: variables for light and dark, and the classes that use them.
extern const std::string_view chart_css;

struct Curve {
  std::string name;
  std::vector<double> x, y;
  bool dashed = false;
  bool edge = false;  // of a band around the curve before: thin, in its colour, without a name in the legend
};
struct LineChart {
  std::string title, x_label, y_label;
  std::vector<Curve> curves;                               // at most 6 are told apart by colour
  bool log_y = false;                                      // values <= 0 are gaps
  std::vector<std::string> x_names = {};                   // of x = 0, 1, ...: dates instead of numbers
  double mark = std::numeric_limits<double>::quiet_NaN();  // a vertical line at this x
  std::string mark_name = {};
};
std::string draw(const LineChart& chart);

// A list of series and the charts of the one that is picked, as HTML. The first is drawn; a script, without which it
// stays, draws the others from 12 bits a point. All series have the same curves at the same x, evenly spaced.
struct Gallery {
  std::string label;                         // of the list
  std::vector<std::string> names, captions;  // of each series; its charts' titles are the name and
  std::vector<std::string> suffixes;         // of each chart
  std::function<std::vector<LineChart>(std::size_t series)> charts;
};
std::string draw(const Gallery& gallery);

struct BarChart {
  std::string title, x_label;
  std::vector<std::string> names;
  std::vector<double> values;  // >= 0
};
std::string draw(const BarChart& chart);

// Values [rows][columns] as coloured cells, from `low` (dark) to `high` (bright); over 64 rows or columns as one
// embedded image.
struct HeatMap {
  std::string title, x_label, y_label;
  std::int64_t rows, columns;
  std::vector<double> values;
  double low, high;
  std::vector<std::string> row_names = {}, column_names = {};  // empty: ticks from the ranges
  double x_first = 0, x_last = 1, y_first = 0, y_last = 1;     // of the outer cells' centres; y grows upwards
};
std::string draw(const HeatMap& map);

}  // namespace samformer::tools
