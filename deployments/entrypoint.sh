#!/bin/sh
# Entry point of the image: each file of /run/secrets becomes the variable that it is named after. So a secret stands in
# no image, in no compose file, and not in what `docker inspect` shows.
set -eu
for file in "${SECRETS:-/run/secrets}"/*; do
  name=${file##*/}
  case $name in *[!A-Z0-9_]* | [0-9]*) continue ;; esac
  value=$(cat "$file")
  if [ -z "$value" ]; then
    echo "the secret $name is empty; deployments/secrets.sh makes one" >&2
    exit 2
  fi
  export "$name=$value"
done
exec "$@"
