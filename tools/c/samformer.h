/* samformer in another program: train and forecast without a process of its own. C99 and C++.

   Each function but the last three returns one of the program's exit codes: 0 ok, 1 internal, 2 usage, 3 data,
   4 device or memory, 5 diverged, 7 cannot write or read, 130 stopped; samformer_error() says what was wrong. No
   exception leaves the library, nothing is printed, no signal handler is set, no environment variable of the program's
   settings is read. Functions may run in several threads at once; a handle may forecast in several.

   Values are float32, a row a time step, the columns beside each other: values[row * columns + column]. `dates` are
   texts as in a CSV file ("2020-01-31 14:00"), one a row; NULL: the series has none. All texts are UTF-8.

   Settings are a JSON object whose keys are the flags of `samformer train --help` without the dashes:
   {"out": "runs/a", "horizon": 96, "epochs": 10, "refit": true, "seeds": [1, 2], "columns": ["HUFL", "OT"]} */
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

/* A trained forecaster. */
typedef struct samformer_forecaster samformer_forecaster;

/* Called by the thread that trains, while samformer_train() waits: after each step with NULL, after each epoch with its
   line of metrics.jsonl {"epoch": 1, "train_loss": ..., "val_mse": ...}. Other than 0 stops at the next step:
   samformer_train() returns 130, and `samformer train --resume` goes on from there. */
typedef int (*samformer_progress)(const char* epoch, void* user);

/* Trains as `samformer train` does and leaves the run in the folder of the setting `out`, which is required: its files,
   and the values as series-HASH.csv. The weights are those that the program trains on that file. Where it fails a run
   that was there is as it was, unless the new one had begun. `names` are those of the columns. Not among the settings: data, resume, config, print-config, dry-run. `progress` may be NULL. *out is NULL
   where it fails. */
SAMFORMER_API int samformer_train(const float* values, int64_t rows, int64_t columns, const char* const* names,
                                  const char* const* dates, const char* settings, samformer_progress progress,
                                  void* user, samformer_forecaster** out);

/* The forecaster of a run's folder, which samformer_train() or `samformer train` has left. Settings, or NULL: device,
   threads, weights, member of `samformer predict`. */
SAMFORMER_API int samformer_load(const char* run, const char* settings, samformer_forecaster** out);

/* The steps after the last of `rows` rows, at least the look-back of them, with the columns that samformer_info() calls
   `channels`. `forecast` has room for `size` numbers, at least horizon * targets: forecast[step * targets + target], in
   original units, the numbers that `samformer predict` prints. Not for panels and models with columns known ahead. */
SAMFORMER_API int samformer_predict(const samformer_forecaster* forecaster, const float* values, int64_t rows,
                                    const char* const* dates, float* forecast, int64_t size);

/* *json: {"weights_sha256", "run_dir", "channels", "targets", "lookback", "horizon", "test_mse", "test_mae"}; of
   several models (seeds) weights_sha256 is a list; the errors are null where nothing was tested. The text belongs to
   the forecaster. */
SAMFORMER_API int samformer_info(const samformer_forecaster* forecaster, const char** json);

/* NULL is allowed. */
SAMFORMER_API void samformer_free(samformer_forecaster* forecaster);

/* SAMFORMER_ABI of the library that is linked. */
SAMFORMER_API int samformer_abi(void);

/* What the last call in this thread has failed with, and a hint; "" where it has not. Valid until the next call. */
SAMFORMER_API const char* samformer_error(void);

#ifdef __cplusplus
}
#endif
#endif
