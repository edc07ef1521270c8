#!/bin/sh
# A Dask cluster that stays, on machines of your own.  On one machine: existing.sh scheduler; on each of the others, as
# often as it has GPUs or groups of cores: existing.sh worker HOST.  DIR is what `overtile certs DIR` made, copied there.
set -eu
DIR=${DIR:-$HOME/.overtile/tls}
THREADS=${THREADS:-4}
MEMORY=${MEMORY:-16GiB}
PORT=${PORT:-8786}
LISTEN=${LISTEN:-} # address to listen at; all of the machine's if left out
HEALTH=${HEALTH:-0} # port of this machine alone at which /health answers; any free one if left out

tls() { echo "--tls-ca-file $DIR/ca.pem --tls-cert $DIR/$1.pem --tls-key $DIR/$1-key.pem"; }

# What `overtile` gives to workers that it starts itself.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647
export OMP_NUM_THREADS="$THREADS" MKL_NUM_THREADS="$THREADS" OPENBLAS_NUM_THREADS="$THREADS"
export DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=1
export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False
export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE=0.95
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True

case ${1:-} in
  # shellcheck disable=SC2046 # the options are words
  scheduler) exec dask scheduler ${LISTEN:+--host "$LISTEN"} --protocol tls --port "$PORT" --no-dashboard \
    --dashboard-address "127.0.0.1:$HEALTH" $(tls scheduler) ;;
  # shellcheck disable=SC2046
  worker) exec dask worker "tls://${2:?which host is the scheduler on?}:$PORT" ${LISTEN:+--host "$LISTEN"} \
    $(tls worker) --nthreads 3 --memory-limit "$MEMORY" --nanny --no-dashboard --dashboard-address "127.0.0.1:$HEALTH" ;;
  *) echo "existing.sh scheduler | existing.sh worker HOST" >&2; exit 2 ;;
esac
