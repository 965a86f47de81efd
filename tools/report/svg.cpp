#include "tools/report/svg.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace samformer::tools {
namespace {

constexpr double width = 400, left = 58, right = 12, top = 26;
constexpr std::int64_t most_cells = 64;    // a side; beyond it one image
constexpr std::int64_t most_pixels = 512;  // a side of that

bool finite(double v) { return std::isfinite(v); }

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;

  void take(double v) {
    if (!finite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  // Something to divide by, also for no value or one.
  void widen() {
    if (!(low <= high)) low = 0, high = 1;
    if (low == high) {
      const double half = low == 0 ? 1 : std::fabs(low) / 10;
      low -= half;
      high += half;
    }
  }
};

// About `count` round numbers inside the range: 1, 2 or 5 times a power of ten apart.
std::vector<double> ticks(Range r, int count) {
  const double raw = (r.high - r.low) / count, power = std::pow(10, std::floor(std::log10(raw)));
  const double step = power * (raw / power > 5 ? 10 : raw / power > 2 ? 5 : raw / power > 1 ? 2 : 1);
  std::vector<double> out;
  for (double k = std::ceil(r.low / step - 1e-9); k * step <= r.high + 1e-9 * step; ++k) out.push_back(k * step + 0.0);
  return out;
}

std::string text(double x, double y, std::string_view anchor, std::string_view words, std::string_view more = {}) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                     escape_xml(words));
}

std::string shortened(const std::string& name, std::size_t most) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if ((static_cast<unsigned char>(name[i]) & 0xC0) == 0x80) continue;  // inside a UTF-8 character
    if (characters++ == most) return name.substr(0, i) + "…";
  }
  return name;
}

std::string open_svg(double height, const std::string& title) {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" viewBox=\"0 0 {:.0f} {:.0f}\">\n"
             "<title>{}</title>\n",
             width, height, escape_xml(title)) +
         text(8, 15, "start", title, " class=\"head\"");
}

std::string line(double x1, double y1, double x2, double y2, std::string_view kind) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2,
                     kind);
}

// Viridis (Smith & van der Walt 2015) at nine points, linear between them.
std::array<int, 3> colour(double share) {
  static constexpr double points[9][3] = {{68, 1, 84},    {71, 44, 122}, {59, 81, 139},  {44, 113, 142}, {33, 144, 141},
                                          {39, 173, 129}, {92, 200, 99}, {170, 220, 50}, {253, 231, 37}};
  const double at = std::clamp(share, 0.0, 1.0) * 8;
  const int k = std::min(7, static_cast<int>(at));
  std::array<int, 3> out{};
  for (std::size_t c = 0; c < 3; ++c) {
    out[c] = static_cast<int>(std::lround(points[k][c] + (at - k) * (points[k + 1][c] - points[k][c])));
  }
  return out;
}

constexpr std::string_view digits64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string base64(const std::string& bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k > bytes.size() ? '=' : digits64[group >> (18 - 6 * k) & 63];
    }
  }
  return out;
}

// The same with means of neighbouring cells, so that no side has more than most_pixels.
HeatMap reduced(const HeatMap& map) {
  const std::int64_t by = (std::max(map.rows, map.columns) + most_pixels - 1) / most_pixels;
  HeatMap out = map;
  out.rows = (map.rows + by - 1) / by, out.columns = (map.columns + by - 1) / by;
  out.values.assign(static_cast<std::size_t>(out.rows * out.columns), 0);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    for (std::int64_t c = 0; c < out.columns; ++c) {
      double sum = 0, count = 0;
      for (std::int64_t i = r * by; i < std::min(map.rows, (r + 1) * by); ++i) {
        for (std::int64_t j = c * by; j < std::min(map.columns, (c + 1) * by); ++j, ++count) {
          sum += map.values[static_cast<std::size_t>(i * map.columns + j)];
        }
      }
      out.values[static_cast<std::size_t>(r * out.columns + c)] = sum / count;
    }
  }
  return out;
}

// A picture of one byte a cell with a palette: Windows bitmap, the simplest format that every browser reads.
std::string bitmap(const HeatMap& map) {
  const auto number = [](std::string& to, std::uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) to += static_cast<char>(value >> (8 * i) & 0xff);
  };
  const std::int64_t stride = (map.columns + 3) / 4 * 4;
  const auto data = static_cast<std::uint32_t>(54 + 1024);
  std::string out = "BM";
  for (const std::uint32_t v : {data + static_cast<std::uint32_t>(stride * map.rows), 0u, data, 40u,
                                static_cast<std::uint32_t>(map.columns), static_cast<std::uint32_t>(map.rows)}) {
    number(out, v, 4);
  }
  number(out, 1, 2);
  number(out, 8, 2);
  for (const std::uint32_t v : {0u, 0u, 2835u, 2835u, 256u, 0u}) number(out, v, 4);
  for (int i = 0; i < 256; ++i) {
    const auto c = colour(i / 255.0);
    for (const std::size_t k : {2u, 1u, 0u}) out += static_cast<char>(c[k]);
    out += '\0';
  }
  for (std::int64_t r = map.rows; r-- > 0;) {  // from the bottom up
    for (std::int64_t c = 0; c < stride; ++c) {
      const double v = c < map.columns ? map.values[static_cast<std::size_t>(r * map.columns + c)] : map.low;
      const double share = finite(v) ? (v - map.low) / (map.high - map.low) : 0;
      out += static_cast<char>(std::lround(255 * std::clamp(share, 0.0, 1.0)));
    }
  }
  return out;
}

}  // namespace

const std::string_view chart_css =
    R"(:root{--ink:#1b1f24;--soft:#5b6470;--rule:#d8dde3;--paper:#fff;--panel:#f6f8fa;--c0:#2a6fbb;--c1:#c8570f;--c2:#23804f;--c3:#8a4fbf;--c4:#b8336a;--c5:#6b6f76}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4b0;--rule:#39414b;--paper:#12161b;--panel:#1b2128;--c0:#6aa9ee;--c1:#f0954d;--c2:#5cc48c;--c3:#b98be8;--c4:#ee7aa6;--c5:#a3a8b0}}
.chart{width:100%;height:auto;display:block;font:12px system-ui,sans-serif;fill:var(--soft)}
.chart .head{fill:var(--ink);font-weight:600;font-size:13px}
.chart .rule{stroke:var(--rule)}.chart .mark{stroke:var(--soft);stroke-dasharray:3 3}
.chart .curve{fill:none;stroke-width:1.8;stroke-linejoin:round}.chart .dashed{stroke-dasharray:5 3}.chart .edge{stroke-width:.7}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
.chart .bar{fill:var(--c0)}.chart .legend{fill:var(--ink)}
)";

std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string short_number(double value) { return finite(value) ? fmt::format("{:.4g}", value + 0.0) : std::string("–"); }

namespace {

// Where the parts of a line chart lie.
struct Plot {
  static constexpr double bottom = 38, inner_width = width - left - right;
  bool log_y;
  std::size_t across;  // names in a row of the legend
  double above, height, inner_height;
  Range xs, ys;

  explicit Plot(const LineChart& chart) : log_y(chart.log_y) {
    std::size_t longest = 0;
    for (const Curve& c : chart.curves) longest = c.edge ? longest : std::max(longest, c.name.size());
    // Three short names a line, two longer ones, or one.
    across = longest <= 15 ? 3 : longest <= 22 ? 2 : 1;
    const auto named = static_cast<std::size_t>(std::ranges::count(chart.curves, false, &Curve::edge));
    const std::size_t names = chart.curves.size() > 1 ? named : 0;
    const double legend = 16 * static_cast<double>((names + across - 1) / across);
    const double mark = finite(chart.mark) && !chart.mark_name.empty() ? 16 : 0;  // its name is above the curves
    above = top + legend + mark + 4;
    height = 216 + legend + mark;
    inner_height = height - above - bottom;
    for (const Curve& c : chart.curves) {
      for (std::size_t i = 0; i < c.x.size(); ++i) {
        if (!finite(y_of(c.y[i]))) continue;
        xs.take(c.x[i]);
        ys.take(y_of(c.y[i]));
      }
    }
    xs.widen();
    ys.widen();
  }

  double y_of(double v) const { return log_y ? (v > 0 ? std::log10(v) : NAN) : v; }
  double px(double x) const { return left + (x - xs.low) / (xs.high - xs.low) * inner_width; }
  double py(double y) const { return above + (ys.high - y) / (ys.high - ys.low) * inner_height; }
  std::vector<double> levels() const {
    if (!log_y) return ticks(ys, 4);
    std::vector<double> powers;
    if (ys.high - ys.low <= 1) {
      for (const double v : ticks({std::pow(10, ys.low), std::pow(10, ys.high)}, 4)) powers.push_back(std::log10(v));
      return powers;
    }
    const double step = std::ceil((ys.high - ys.low) / 6);
    for (double k = std::ceil(ys.low); k <= ys.high; k += step) powers.push_back(k);
    return powers;
  }
  std::string level_name(double v) const { return short_number(log_y ? std::pow(10, v) : v); }
};

}  // namespace

std::string draw(const LineChart& chart) {
  const Plot plot(chart);
  const double above = plot.above, height = plot.height, bottom = Plot::bottom, inner_height = plot.inner_height;
  std::string svg = open_svg(height, chart.title);
  for (std::size_t i = 0, at = 0; chart.curves.size() > 1 && at < chart.curves.size(); ++at) {
    if (chart.curves[at].edge) continue;
    const double x = left + static_cast<double>(i % plot.across) * 342 / static_cast<double>(plot.across);
    const double y = top + 9 + 16 * static_cast<double>(i / plot.across);
    svg +=
        line(x - 18, y - 4, x - 4, y - 4, fmt::format("curve c{}{}", i % 6, chart.curves[at].dashed ? " dashed" : ""));
    svg += text(x, y, "start", shortened(chart.curves[at].name, 48), " class=\"legend\"");
    ++i;
  }
  svg += "<g class=\"levels\">\n";
  for (const double v : plot.levels()) {
    svg += line(left, plot.py(v), width - right, plot.py(v), "rule");
    svg += text(left - 4, plot.py(v) + 4, "end", plot.level_name(v));
  }
  svg += "</g>\n";
  if (chart.x_names.empty()) {
    for (const double v : ticks(plot.xs, 6)) svg += text(plot.px(v), height - bottom + 15, "middle", short_number(v));
  } else {
    const auto name = [&](double x) {
      return chart.x_names[std::min(chart.x_names.size() - 1, static_cast<std::size_t>(std::max(0.0, x)))];
    };
    svg += text(left, height - bottom + 15, "start", name(plot.xs.low));
    svg += text(width - right, height - bottom + 15, "end", name(plot.xs.high));
  }
  svg += text(left + Plot::inner_width / 2, height - 6, "middle", chart.x_label);
  if (!chart.y_label.empty()) {
    svg += text(0, 0, "middle", chart.y_label,
                fmt::format(" transform=\"translate(11,{:.1f}) rotate(-90)\"", above + inner_height / 2));
  }
  if (finite(chart.mark)) {
    const double x = plot.px(chart.mark);
    svg += line(x, above, x, above + inner_height, "mark");
    svg += text(x, above - 5, x > width * 0.7 ? "end" : x < width * 0.3 ? "start" : "middle", chart.mark_name);
  }
  std::size_t colours = 0;
  for (const Curve& c : chart.curves) {
    colours += c.edge ? 0 : 1;
    std::string path;
    bool pen = false;
    for (std::size_t k = 0; k < c.x.size(); ++k) {
      const double y = plot.y_of(c.y[k]);
      if (finite(y)) path += fmt::format("{}{:.1f} {:.1f}", pen ? 'L' : 'M', plot.px(c.x[k]), plot.py(y));
      pen = finite(y);
    }
    const std::string kind =
        fmt::format("curve c{}{}{}", (colours + 5) % 6, c.dashed ? " dashed" : "", c.edge ? " edge" : "");
    svg += fmt::format("<path class=\"{}\" d=\"{}\"><title>{}</title></path>\n", kind, path, escape_xml(c.name));
    if (c.x.size() == 1 && finite(plot.y_of(c.y[0]))) {
      svg += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>\n", kind, plot.px(c.x[0]),
                         plot.py(plot.y_of(c.y[0])));
    }
  }
  return svg + "</svg>\n";
}

namespace {

// Heights as two digits of 64 each, from the top of the plot (0) to its bottom (4095); two spaces: a gap.
std::string heights(const Curve& curve, const Plot& plot) {
  std::string text;
  for (const double v : curve.y) {
    const double share = (plot.py(plot.y_of(v)) - plot.above) / plot.inner_height;
    if (!finite(share)) {
      text += "  ";
      continue;
    }
    const auto level = static_cast<std::size_t>(std::lround(std::clamp(share, 0.0, 1.0) * 4095));
    text += digits64[level / 64];
    text += digits64[level % 64];
  }
  return text;
}

constexpr std::string_view gallery_script =
    R"((()=>{const box=document.currentScript.parentNode,data=JSON.parse(box.querySelector('script').textContent),
pick=box.querySelector('select'),svgs=box.querySelectorAll('svg'),digits='ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
for(const s of data.series)pick.add(new Option(s[0]));
pick.onchange=()=>{const [name,caption,...plots]=data.series[pick.selectedIndex];
box.querySelector('.caption').textContent=caption;
plots.forEach(([levels,...curves],k)=>{const svg=svgs[k],p=data.plots[k];
for(const at of ['title','.head'])svg.querySelector(at).textContent=name+p.suffix;
svg.querySelector('.levels').innerHTML=levels.map(([y,text])=>`<line x1="${p.left}" x2="${p.right}" y1="${y}" y2="${y}" class="rule"/><text x="${p.left-4}" y="${y+4}" text-anchor="end">${text}</text>`).join('');
svg.querySelectorAll('path').forEach((path,c)=>{let d='',pen='M';const [x,step]=p.x[c];
for(let i=0;2*i<curves[c].length;++i){const a=digits.indexOf(curves[c][2*i]),b=digits.indexOf(curves[c][2*i+1]);
if(a<0){pen='M';continue}d+=pen+(x+i*step).toFixed(1)+' '+(p.top+(64*a+b)/4095*p.height).toFixed(1);pen='L'}
path.setAttribute('d',d)})})};
box.querySelector('.pick').hidden=false})())";

}  // namespace

std::string draw(const Gallery& gallery) {
  using Json = nlohmann::ordered_json;
  std::string first;
  Json plots = Json::array(), series = Json::array();
  for (std::size_t i = 0; i < gallery.names.size(); ++i) {
    std::vector<LineChart> charts = gallery.charts(i);
    Json row = {gallery.names[i], gallery.captions[i]};
    for (std::size_t k = 0; k < charts.size(); ++k) {
      const Plot plot(charts[k]);
      if (i == 0) {
        charts[k].title = gallery.names[i] + gallery.suffixes[k];
        first += "<div>" + draw(charts[k]) + "</div>\n";
        Json x = Json::array();
        for (const Curve& c : charts[k].curves) {
          x.push_back({plot.px(c.x[0]), c.x.size() > 1 ? plot.px(c.x[1]) - plot.px(c.x[0]) : 0});
        }
        plots.push_back({{"suffix", gallery.suffixes[k]},
                         {"left", left},
                         {"right", width - right},
                         {"top", plot.above},
                         {"height", plot.inner_height},
                         {"x", x}});
      }
      Json levels = Json::array();
      for (const double v : plot.levels()) levels.push_back({std::round(10 * plot.py(v)) / 10, plot.level_name(v)});
      Json curves = {levels};
      for (const Curve& c : charts[k].curves) curves.push_back(heights(c, plot));
      row.push_back(std::move(curves));
    }
    series.push_back(std::move(row));
  }
  std::string data = Json{{"plots", plots}, {"series", series}}.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t at = 0; (at = data.find('<', at)) != data.npos;) data.replace(at, 1, "\\u003c");
  return fmt::format(
      "<div class=\"gallery\">\n<p class=\"pick\" hidden><label>{} <select></select></label></p>\n"
      "<div class=\"charts\">\n{}</div>\n<p class=\"caption\">{}</p>\n"
      "<script type=\"application/json\">{}</script>\n<script>{}</script>\n</div>\n",
      escape_xml(gallery.label), first, escape_xml(gallery.captions.at(0)), data, gallery_script);
}

std::string draw(const BarChart& chart) {
  constexpr double row = 18, names = 110;
  const double height = top + 8 + row * static_cast<double>(chart.names.size()) + 22;
  Range r;
  r.take(0);
  for (const double v : chart.values) r.take(v);
  r.widen();
  std::string svg = open_svg(height, chart.title);
  for (std::size_t i = 0; i < chart.names.size(); ++i) {
    const double y = top + 8 + row * static_cast<double>(i);
    const double length = finite(chart.values[i]) ? chart.values[i] / r.high * (width - names - 60) : 0;
    svg += text(names - 6, y + 12, "end", shortened(chart.names[i], 15));
    svg += fmt::format("<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"2\"/>\n",
                       names, y + 2, std::max(0.0, length), row - 5);
    svg += text(names + length + 5, y + 12, "start", short_number(chart.values[i]));
  }
  return svg + text(names, height - 6, "start", chart.x_label) + "</svg>\n";
}

std::string draw(const HeatMap& map) {
  const bool named = !map.row_names.empty(), image = map.rows > most_cells || map.columns > most_cells;
  const double from = named ? 84 : left, side = width - from - 68, above = top + 6;
  const double cell_w = side / static_cast<double>(map.columns), cell_h = side / static_cast<double>(map.rows);
  std::size_t longest = 0;  // name under the columns, turned by 45 degrees: some 5 a letter downwards
  for (const std::string& name : map.column_names) longest = std::max(longest, std::min<std::size_t>(name.size(), 10));
  const double below = named && !image ? 32 + 5 * static_cast<double>(longest) : 36, height = above + side + below;
  std::string svg = open_svg(height, map.title);
  if (image) {
    svg += fmt::format(
        "<image x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
        "preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" "
        "href=\"data:image/bmp;base64,{}\"/>\n",
        from, above, side, side, base64(bitmap(reduced(map))));
  } else {
    svg += "<g shape-rendering=\"crispEdges\">\n";
    for (std::int64_t r = 0; r < map.rows; ++r) {
      for (std::int64_t c = 0; c < map.columns; ++c) {
        const double v = map.values[static_cast<std::size_t>(r * map.columns + c)];
        const auto rgb = colour(finite(v) ? (v - map.low) / (map.high - map.low) : 0);
        const double y = above + static_cast<double>(r) * cell_h;
        svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\">",
                           from + static_cast<double>(c) * cell_w, y, cell_w + 0.2, cell_h + 0.2,
                           finite(v) ? fmt::format("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2]) : "none");
        if (named) {
          svg += fmt::format("<title>{} → {}: {}</title>", escape_xml(map.row_names[static_cast<std::size_t>(r)]),
                             escape_xml(map.column_names[static_cast<std::size_t>(c)]), short_number(v));
        }
        svg += "</rect>\n";
      }
    }
    svg += "</g>\n";
  }
  if (named && !image) {
    const std::int64_t every = std::max<std::int64_t>(1, (map.rows + 23) / 24);
    for (std::int64_t i = 0; i < map.rows; i += every) {
      const double y = above + (static_cast<double>(i) + 0.5) * cell_h;
      svg += text(from - 4, y + 4, "end", shortened(map.row_names[static_cast<std::size_t>(i)], 10));
    }
    for (std::int64_t i = 0; i < map.columns; i += every) {
      const double x = from + (static_cast<double>(i) + 0.5) * cell_w;
      svg += text(0, 0, "end", shortened(map.column_names[static_cast<std::size_t>(i)], 10),
                  fmt::format(" transform=\"translate({:.1f},{:.1f}) rotate(-45)\"", x + 4, above + side + 12));
    }
  } else if (!named) {
    for (const double share : {0.0, 0.5, 1.0}) {
      const std::string_view anchor = share == 0 ? "start" : share == 1 ? "end" : "middle";
      svg += text(from + share * side, above + side + 14, anchor,
                  short_number(map.x_first + share * (map.x_last - map.x_first)));
      svg += text(from - 4,
                  above + (1 - share) * side +
                      (share == 1   ? 10
                       : share == 0 ? 0
                                    : 4),
                  "end", short_number(map.y_first + share * (map.y_last - map.y_first)));
    }
  }
  svg += text(from + side / 2, height - 5, "middle", map.x_label);
  svg += text(0, 0, "middle", map.y_label,
              fmt::format(" transform=\"translate(11,{:.1f}) rotate(-90)\"", above + side / 2));
  constexpr int shades = 40;
  for (int i = 0; i < shades; ++i) {
    const auto rgb = colour(1 - (i + 0.5) / shades);
    svg +=
        fmt::format("<rect x=\"{:.1f}\" y=\"{:.2f}\" width=\"10\" height=\"{:.2f}\" fill=\"#{:02x}{:02x}{:02x}\"/>\n",
                    width - 58, above + side * i / shades, side / shades + 0.2, rgb[0], rgb[1], rgb[2]);
  }
  svg += text(width - 44, above + 10, "start", fmt::format("{:.3g}", map.high));
  svg += text(width - 44, above + side, "start", fmt::format("{:.3g}", map.low));
  return svg + "</svg>\n";
}

}  // namespace samformer::tools
