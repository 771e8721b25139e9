#!/usr/bin/env bash
# Make sure that a Chromium is there: $NEVA_CHROMIUM, one on the path, or Debian's own by apt-get (as root or by sudo).
set -euo pipefail
if [ -n "${NEVA_CHROMIUM:-}" ]; then
  [ -x "$NEVA_CHROMIUM" ] && exit 0
  echo "NEVA_CHROMIUM is $NEVA_CHROMIUM, which cannot be run" >&2
  exit 1
fi
command -v chromium > /dev/null && exit 0
if command -v apt-get > /dev/null; then
  if [ "$(id -u)" = 0 ]; then as_root=(); elif sudo -n true 2> /dev/null; then as_root=(sudo -n); else as_root=(false); fi
  if "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq chromium > /dev/null; then exit 0; fi
fi
echo "no Chromium: install it (apt-get install chromium) or set NEVA_CHROMIUM to a Chromium or Chrome" >&2
exit 1
