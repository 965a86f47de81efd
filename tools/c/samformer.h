/* samformer in another program: train and forecast without a process of its own. C99 and C++.

   Each function that returns an int but samformer_abi() returns one of the program's exit codes: 0 ok, 1 internal,
   2 usage, 3 data, 4 device or memory, 5 diverged, 6 check failed, 7 cannot write or read, 130 stopped;
   samformer_error() says what was wrong. No exception leaves the library, nothing is printed, no signal handler is set,
   no environment variable of the program's settings is read, no process is started. Functions may run in several threads
   at once; a handle may forecast in several.

   Texts are UTF-8. Settings are a JSON object, or NULL, whose keys are the flags of the program's command without the
   dashes: {"out": "runs/a", "horizon": 96, "epochs": 10, "refit": true, "seeds": [1, 2], "columns": ["HUFL", "OT"]} */
#ifndef SAMFORMER_H
#define SAMFORMER_H

#include <stdint.h>

#if defined(__GNUC__)
#define SAMFORMER_API __attribute__((visibility("default")))
#else
#define SAMFORMER_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The binary interface that this header describes; it is the library's SOVERSION. */
#define SAMFORMER_ABI 1

/* A series, a row a time step, or with `ids` many series below each other, a row a series and step. Its owner is the
   caller. */
typedef struct samformer_table {
  const float* values; /* values[row * columns + column]; NaN: missing */
  int64_t rows, columns;
  const char* const* names; /* one a column */
  const char* const* dates; /* one a row, as in a CSV file ("2020-01-31 14:00"); NULL: the series has none */
  const char* const* ids;   /* one a row; NULL: the columns are the channels of one series */
} samformer_table;

/* What samformer_predict() gives: rows in the order of steps, of many series by series. */
typedef struct samformer_forecast {
  const double* values; /* values[row * columns + column], the numbers that `samformer predict` prints */
  int64_t rows, columns;
  const char* const* names; /* the targets, with intervals then HUFL_lo_80, HUFL_hi_80, ...; with ids y, lo_80, hi_80 */
  const char* const* dates; /* without dates the numbers of the rows, from 1 */
  const char* const* ids;   /* one a row; NULL: one series */
} samformer_forecast;

/* Whoever follows a training. `progress` (may be NULL) is called by the thread that trains, after each epoch with its
   line of metrics.jsonl {"epoch": 1, "train_loss": ..., "val_mse": ...}. It stops at the next step once `progress` has
   returned other than 0, or `*stop` (may be NULL) is other than 0, which another thread may set: the function returns
   130, and the run's state is kept. */
typedef struct samformer_watch {
  int (*progress)(const char* epoch, void* user);
  void* user;
  const int* stop;
} samformer_watch;

/* A trained forecaster. */
typedef struct samformer_forecaster samformer_forecaster;

/* Trains as `samformer train` does and leaves the run in the folder of the setting `out`, which is required: its files,
   and the values as series-HASH.csv. The weights are those that the program trains on that file. Where it fails a run
   that was there is as it was, unless the new one had begun. Not among the settings: data, resume, config, print-config,
   dry-run. `watch` may be NULL. *out is NULL where it fails. */
SAMFORMER_API int samformer_train(const samformer_table* table, const char* settings, const samformer_watch* watch,
                                  samformer_forecaster** out);

/* Goes on with a run that was stopped, as `samformer train --resume` does. Settings: those that may change then (epochs,
   patience, threads, device). */
SAMFORMER_API int samformer_resume(const char* run, const char* settings, const samformer_watch* watch,
                                   samformer_forecaster** out);

/* The forecaster of a run's folder, which samformer_train() or `samformer train` has left, also of one that was moved.
   Settings: device, threads, weights, member of `samformer predict`. */
SAMFORMER_API int samformer_load(const char* run, const char* settings, samformer_forecaster** out);

/* The steps after the last row of `table`, NULL: of the run's own values; of many series after the last row of each.
   `table` has the columns that samformer_info() calls `channels`, and at least the look-back of rows. `future`: rows of
   the columns known ahead; NULL: `table` goes on with them, with NaN for its channels. Settings: those of `samformer
   predict` (horizon, origin, intervals, calibration, min, max, decimals, integers, holes, calendar, ...) but files and
   those of samformer_load(). */
SAMFORMER_API int samformer_predict(const samformer_forecaster* forecaster, const samformer_table* table,
                                    const samformer_table* future, const char* settings, samformer_forecast** out);

/* `samformer backtest` on the values, one training after the other; `out` is required and holds series-HASH.csv too: the
   same call goes on with a backtest that was stopped. *json: its result, until the next call in this thread; OUT/
   forecasts.csv has the forecasts. Not among the settings: data, resume, config, print-config, dry-run, jobs. */
SAMFORMER_API int samformer_backtest(const samformer_table* table, const char* settings, const samformer_watch* watch,
                                     const char** json);

/* *json: {"weights_sha256", "run_dir", "channels", "targets", "known_ahead", "lookback", "horizon", "test_mse",
   "test_mae"}; of several models (seeds) weights_sha256 is a list; the errors are null where nothing was tested. The
   text belongs to the forecaster. */
SAMFORMER_API int samformer_info(const samformer_forecaster* forecaster, const char** json);

/* NULL is allowed. */
SAMFORMER_API void samformer_free(samformer_forecaster* forecaster);
SAMFORMER_API void samformer_free_forecast(samformer_forecast* forecast);

/* SAMFORMER_ABI of the library that is linked. */
SAMFORMER_API int samformer_abi(void);

/* What the last call in this thread has failed with, "" where it has not: as the program prints it, or as a JSON object
   {exit_code, kind, message, file, line, column, hint}. Valid until the next call. */
SAMFORMER_API const char* samformer_error(void);
SAMFORMER_API const char* samformer_error_json(void);

/* What the last call in this thread has warned of as the program prints it, a line each. Valid until the next call. */
SAMFORMER_API const char* samformer_warnings(void);

#ifdef __cplusplus
}
#endif
#endif
