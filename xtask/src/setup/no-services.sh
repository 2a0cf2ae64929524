# Runs a command (`$@`) during which no package may start a service.
#
# docker.io, nginx-light and redis-server start their daemons when they are installed: Docker's would add its
# iptables rules to the user's machine, the others would listen on its ports. The tests start their own, each
# in a network namespace. Debian asks policy-rc.d before any package starts a service (invoke-rc.d(8),
# deb-systemd-invoke(1p)); its answer 101 is "no". The user's own policy, if there is one, is put back, after
# Ctrl-C too: that is why this is a script, which outlives the task that started it.
set -eu
policy=/usr/sbin/policy-rc.d
saved=$policy.saved-by-datapath
mark='no services while datapath installs packages'

restore() {
    if [ -e "$saved" ]; then
        mv -f "$saved" "$policy"
    elif grep -qs "$mark" "$policy"; then
        rm -f "$policy"
    fi
}
# A run that lost its power has left the guard: the user's policy is the one that it saved.
restore

trap restore EXIT
trap 'exit 130' HUP INT TERM
if [ -e "$policy" ]; then
    mv "$policy" "$saved"
fi
printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$policy"
chmod 755 "$policy"
"$@"
