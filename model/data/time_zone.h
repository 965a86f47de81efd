// The clocks of a place, from the system's tz database: a wall clock's offset from UTC, which the wall clock alone does
// not say in the hour that is repeated in autumn, and which an hour of spring does not have.
// Errors: Exit::usage for a zone that the database does not have, and where there is no database.
// The library's tables end in 2037; later there is no summer time.
// Source: https://www.iana.org/time-zones, read by Howard Hinnant's date library.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/data/date_format.h"

namespace samformer::model {

class TimeZone {
 public:
  static bool exists(const std::string& name);
  explicit TimeZone(const std::string& name);
  ~TimeZone();

  enum class Hour : std::uint8_t { unique, repeated, absent };
  // Sets the offset of a wall clock; the first one of a repeated hour, the one before the change of an absent hour.
  Hour locate(Stamp& wall) const;
  // The second one of a repeated hour; after the change of an absent hour, where the wall clock moves on too.
  void locate_after(Stamp& wall) const;
  // Sets the wall clock and its offset from what they are elsewhere.
  void convert(Stamp& stamp) const;

 private:
  struct Rules;
  std::unique_ptr<Rules> rules_;
};

// A zone whose clocks change as the dates say, between a row of a local time and the next: "Europe/Berlin" where it goes
// from 01:59 to 03:00 on the last Sunday of March, or from 02:59 to 02:00 on that of October; London and Athens an hour
// earlier and later, New York on other Sundays. Empty where it is no such change.
std::string zone_of_change(const Stamp& before, const Stamp& after);

}  // namespace samformer::model
