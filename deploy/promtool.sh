#!/bin/sh
# promtool, or the one of the Debian package prometheus, unpacked below bin/.
set -eu
command -v promtool >/dev/null && exec promtool "$@"
dir=$(dirname "$0")/../bin/prometheus
if [ ! -x "$dir/usr/bin/promtool" ]; then
	command -v apt-get >/dev/null || { echo "no promtool here: install Prometheus, or run this on Debian" >&2; exit 1; }
	mkdir -p "$dir"
	(cd "$dir" && { apt-get -qq -o APT::Sandbox::User=root download prometheus || { apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download prometheus; }; } && dpkg-deb -x prometheus_*.deb .) >&2
fi
exec "$dir/usr/bin/promtool" "$@"
