#!/bin/sh
# Makes the secrets that compose.yaml refers to: secrets.sh [FOLDER], by default deployments/secrets. What is there is
# kept. The folder is yours alone; within it files can be read, because containers see them one by one as other users.
set -eu
FOLDER=${1:-$(dirname "$0")/secrets}
mkdir -p "$FOLDER"
chmod 700 "$FOLDER"

random() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
keep() {
  [ -s "$FOLDER/$1" ] || printf %s "$2" >"$FOLDER/$1"
  chmod 644 "$FOLDER/$1"
}

keep database_password "$(random)"
keep api_auth "overtile:$(random)"
keep store_user overtile
keep store_password "$(random)"
