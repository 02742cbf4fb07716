# shellcheck shell=bash
#
# lib.sh: what the scripts share: packages, builds, installation, throw-away clusters, and cleaning up after all of it.
#
# Sourced by a bash script that has said `set -euo pipefail`. Sourcing installs the traps.
#
# RULES
#   * Everything a script makes outside build/ lives in one directory of its own, $SB_WORK, made by work_dir. Cleaning up means:
#     end the job that is running, stop every server whose data directory lies in $SB_WORK, remove $SB_WORK. Nothing else is ever
#     stopped or removed, so a cluster that somebody else started is safe by construction.
#   * PostgreSQL refuses to run as root. When root calls us, the servers and the test programs run as $SB_USER and see only
#     $SB_WORK, since the source tree may lie where that user cannot look.
#   * Whatever takes long runs through `run`: bash handles a signal only after its foreground command has ended.
#
# SETTINGS (environment)
#   PG_MAJOR   major version to build for and to run, default 15; scripts/servers knows where to get it
#   PG_CONFIG  pg_config of a PostgreSQL of your own, of whatever version
#   SB_JOBS    parallel compilations, default the number of processors, at most 4

SB_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck disable=SC2034 # scripts/servers, scripts/test-all-versions
SB_MAJORS=(15 16 17 18)
SB_WORK=''
SB_KEEP=''
SB_JOB=''

# A user's own settings must not lead psql to another server or change what it prints.
for sb_name in "${!PG@}"; do
	case $sb_name in
		PG_MAJOR | PG_CONFIG | PG_TEST_*) ;;
		*) unset "$sb_name" ;;
	esac
done
export PSQLRC=/dev/null LC_MESSAGES=C

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

major_of() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

if [[ -n ${PG_CONFIG:-} ]]; then
	sb_major=$(major_of "$PG_CONFIG") || die "PG_CONFIG, $PG_CONFIG, is no pg_config"
	[[ ${PG_MAJOR:-$sb_major} == "$sb_major" ]] || die "version $PG_MAJOR is asked for, and PG_CONFIG is that of version $sb_major"
	PG_MAJOR=$sb_major
fi
export PG_MAJOR=${PG_MAJOR:-15}
SB_BUILD=${SB_BUILD:-$SB_ROOT/build/$PG_MAJOR}

# ---- who does what -----------------------------------------------------------------------------------------------------------

can_root() { [[ $EUID -eq 0 ]] || { have sudo && sudo -n true 2>/dev/null; }; }

as_root() {
	if [[ $EUID -eq 0 ]]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

# The user that runs servers: the caller, or for root `postgres` (it exists once the packages are there), or nobody.
pick_user() {
	if [[ $EUID -ne 0 ]]; then
		SB_USER=$(id -un)
	elif getent passwd postgres >/dev/null; then
		SB_USER=postgres
	else
		SB_USER=nobody
	fi
}

# Runs a program (not a function) as that user, in a directory that the user can see.
as_user() {
	if [[ $EUID -eq 0 ]]; then
		(cd "$SB_WORK" && exec runuser -u "$SB_USER" -- env HOME="$SB_WORK" TMPDIR="$SB_WORK/tmp" "$@")
	else
		(cd "$SB_WORK" && exec env TMPDIR="$SB_WORK/tmp" "$@")
	fi
}

# ---- jobs and cleaning up ------------------------------------------------------------------------------------------------------

# Runs a command or function in a process group of its own and waits for it, so that a signal to this script ends it at once.
run() {
	local rc=0

	set -m
	"$@" </dev/null &
	SB_JOB=$!
	set +m
	wait "$SB_JOB" || rc=$?
	SB_JOB=''
	return "$rc"
}

# run, with all output also in a file
run_logged() {
	local log=$1

	shift
	run pipe_to_log "$log" "$@"
}

pipe_to_log() {
	local log=$1

	shift
	set +e
	"$@" 2>&1 | tee "$log"
	return "${PIPESTATUS[0]}"
}

# Polls, at most TRIES times and ten times a second, until the command succeeds.
poll() {
	local tries=$1 i

	shift
	for ((i = 0; i < tries; i++)); do
		if "$@"; then
			return 0
		fi
		sleep 0.1
	done
	return 1
}

group_is_gone() { ! kill -0 -- "-$1" 2>/dev/null; }
process_is_gone() { ! kill -0 "$1" 2>/dev/null; }
# The same, and waits at most SECONDS for it: one tick of a loop that shows something while a job runs.
job_ends_within() { poll "$(($2 * 10))" process_is_gone "$1"; }

end_job() {
	[[ -n $SB_JOB ]] || return 0
	kill -TERM -- "-$SB_JOB" 2>/dev/null || return 0
	poll 100 group_is_gone "$SB_JOB" || kill -KILL -- "-$SB_JOB" 2>/dev/null || true
}

# Stops the server of a data directory of ours: politely, then not.
stop_server() {
	local data=$1 pid

	[[ -f $data/postmaster.pid ]] || return 0
	as_user "$PG_BIN/pg_ctl" -D "$data" -m fast -t 15 -w stop >/dev/null 2>&1 && return 0
	as_user "$PG_BIN/pg_ctl" -D "$data" -m immediate -t 10 -w stop >/dev/null 2>&1 && return 0
	pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || return 0
	# the file may be stale and the number somebody else's by now
	if [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$data" ]]; then
		warn "the server in $data did not stop and is killed"
		kill -KILL "$pid" 2>/dev/null || true
	fi
}

# A script may define on_exit, which gets the exit status and is called last.
cleanup() {
	local rc=$? file

	trap - EXIT
	trap '' INT TERM HUP
	set +e
	end_job
	if [[ -n $SB_WORK && -z $SB_KEEP ]]; then
		while IFS= read -r file; do
			stop_server "${file%/postmaster.pid}"
		done < <(find "$SB_WORK" -name postmaster.pid -type f 2>/dev/null)
		rm -rf -- "$SB_WORK"
	fi
	if declare -F on_exit >/dev/null; then
		on_exit "$rc"
	fi
	exit "$rc"
}

trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Makes $SB_WORK, which belongs to $SB_USER. The path is short: a socket's path has room for 107 bytes only.
work_dir() {
	[[ -z $SB_WORK ]] || return 0
	pick_user
	SB_WORK=$(mktemp -d /tmp/stream_beam.XXXXXX)
	mkdir "$SB_WORK/tmp"
	[[ $EUID -ne 0 ]] || chown "$SB_USER" "$SB_WORK" "$SB_WORK/tmp"
}

# ---- packages ------------------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2034 # used by the scripts that source this file
PACKAGES_BUILD=(gcc make libc6-dev)
# shellcheck disable=SC2034
PACKAGES_TEST=(perl clang-14 clang-format-14 cppcheck binutils libipc-run-perl libtap-parser-sourcehandler-pgtap-perl)

package_is_there() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }

# Installs those of the named Debian packages that are missing. What cannot be had is named and left to fail where it is needed.
install_packages() {
	local package missing=() refused=() reason='' log

	if ! have dpkg-query || ! have apt-get; then
		warn "this is not Debian: nothing is installed; needed are the equivalents of: $*"
		return 0
	fi
	for package in "$@"; do
		package_is_there "$package" || missing+=("$package")
	done
	[[ ${#missing[@]} -gt 0 ]] || return 0
	if ! can_root; then
		warn "cannot install ${missing[*]}: neither root nor sudo; run: apt-get install ${missing[*]}"
		return 0
	fi
	say "installing: ${missing[*]}"
	log=$(mktemp)
	if ! run as_root apt-get update -qq >"$log" 2>&1; then
		warn "apt-get update failed: $(tail -n 1 "$log")"
	fi
	if ! run apt_install "${missing[@]}" >"$log" 2>&1; then
		# one package that does not exist must not cost the others
		for package in "${missing[@]}"; do
			if ! run apt_install "$package" >"$log" 2>&1; then
				refused+=("$package")
				reason=$(tail -n 1 "$log")
			fi
		done
	fi
	[[ ${#refused[@]} -eq 0 ]] || warn "could not install ${refused[*]}: $reason"
	rm -f "$log"
}

# ---- the PostgreSQL we build for -------------------------------------------------------------------------------------------------

# Sets PG_CONFIG, PG_BIN, PG_LIB, PG_PGXS. Installs or makes the server where PG_CONFIG does not name one.
find_postgres() {
	if [[ -z ${PG_CONFIG:-} ]]; then
		if ! PG_CONFIG=$("$SB_ROOT/scripts/servers" "$PG_MAJOR"); then
			PG_CONFIG=$(command -v pg_config) || die "there is no pg_config: PG_CONFIG names that of a PostgreSQL of your own"
			[[ $(major_of "$PG_CONFIG") == "$PG_MAJOR" ]] || die "there is no PostgreSQL $PG_MAJOR: PG_CONFIG names the pg_config of another one"
		fi
	fi
	PG_BIN=$("$PG_CONFIG" --bindir)
	PG_LIB=$("$PG_CONFIG" --pkglibdir)
	# shellcheck disable=SC2034 # scripts/test
	PG_PGXS=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	[[ -f $("$PG_CONFIG" --pgxs) ]] || die "there is no $("$PG_CONFIG" --pgxs): install the files to build extensions"
	[[ -x $PG_BIN/initdb ]] || die "there is no $PG_BIN/initdb: install the server"
	export PG_CONFIG
}

# ---- builds --------------------------------------------------------------------------------------------------------------------

# Bitcode would double the time of a build; install_build removes what an earlier installation left of it.
make_build() {
	local kind=$1 options=("PG_CONFIG=$PG_CONFIG" with_llvm=no)

	shift
	[[ $kind != assert ]] || options+=(SB_ASSERT=1)
	make --no-print-directory -C "$SB_BUILD/$kind" "${options[@]}" "$@"
}

# What, when it changes, makes the objects of an earlier build useless beyond what make can see.
build_stamp() {
	"$PG_CONFIG" --version
	"$PG_CONFIG" --pkglibdir
	cksum <"$SB_ROOT/Makefile"
	(cd "$SB_ROOT" && find src test -name '*.[ch]' | LC_ALL=C sort)
}

# Copies the tree to build/KIND, keeping the times of the files, and builds there: KIND is assert or release. Objects of both kinds
# live side by side, and none of it touches the tree itself.
build() {
	local kind=$1 dir stamp part parts=()

	[[ -w $SB_ROOT ]] || {
		work_dir
		SB_BUILD=$SB_WORK/build
	}
	dir=$SB_BUILD/$kind
	stamp=$(build_stamp)
	if [[ -d $dir && $(cat "$dir/.stamp" 2>/dev/null) != "$stamp" ]]; then
		rm -rf -- "$dir"
	fi
	mkdir -p "$dir"
	# texts may have gone; objects and what a unit test has built stay
	(cd "$dir" && find . -type f \( -name '*.sql' -o -name '*.out' -o -name '*.spec' -o -name '*.p[lm]' \) -delete)
	for part in Makefile stream_beam.control META.json src sql expected test; do
		[[ ! -e $SB_ROOT/$part ]] || parts+=("$part")
	done
	tar -C "$SB_ROOT" -cf - --exclude='*.o' --exclude='*.so' --exclude='*.bc' "${parts[@]}" | tar -C "$dir" -xf - --no-same-owner || return 1
	printf '%s\n' "$stamp" >"$dir/.stamp"
	if ! run make_build "$kind" -j "$(jobs_count)" >"$dir/build.log" 2>&1; then
		cat "$dir/build.log"
		return 1
	fi
}

jobs_count() {
	local n

	n=$(nproc 2>/dev/null || echo 2)
	echo "${SB_JOBS:-$((n > 4 ? 4 : n))}"
}

# What earlier versions have released goes beside the build that the tests run: they begin with those, and update them.
install_released() {
	local to copy=(install -m 644 "$SB_BUILD"/assert/test/upgrade/stream_beam--*.sql)

	to=$("$PG_CONFIG" --sharedir)/extension/
	if [[ -w $to ]]; then
		"${copy[@]}" "$to"
	elif can_root; then
		as_root "${copy[@]}" "$to"
	fi
}

# Installs a build into the PostgreSQL it was built for.
install_build() {
	install_files "$1"
	[[ $1 != assert ]] || install_released
}

install_files() {
	local kind=$1 so=$SB_BUILD/$1/stream_beam.so log

	log=$SB_BUILD/$kind/install.log
	if [[ -w $PG_LIB ]]; then
		make_build "$kind" install >"$log" 2>&1 || {
			cat "$log"
			die "could not install into $PG_LIB"
		}
		rm -rf -- "$PG_LIB/bitcode/stream_beam" "$PG_LIB/bitcode/stream_beam.index.bc"
	elif can_root; then
		as_root make --no-print-directory -C "$SB_BUILD/$kind" "PG_CONFIG=$PG_CONFIG" with_llvm=no install >"$log" 2>&1 || {
			cat "$log"
			die "could not install into $PG_LIB"
		}
		as_root rm -rf -- "$PG_LIB/bitcode/stream_beam" "$PG_LIB/bitcode/stream_beam.index.bc"
	elif cmp -s "$so" "$PG_LIB/stream_beam.so"; then
		warn "cannot write to $PG_LIB, but this very build is installed there already"
	else
		die "cannot install into $PG_LIB: neither root nor sudo; run as root: make -C $SB_BUILD/$kind install"
	fi
}

# ---- throw-away clusters ---------------------------------------------------------------------------------------------------------

# A port nobody listens on. Our servers listen on no network address; it only names the socket, but a client that forgets the
# socket directory must not reach somebody else.
free_port() {
	local port i

	for ((i = 0; i < 200; i++)); do
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 30000))
		if ! port_is_used "$port"; then
			echo "$port"
			return 0
		fi
	done
	die "found no free port"
}

port_is_used() {
	[[ -e /tmp/.s.PGSQL.$1 || -e /var/run/postgresql/.s.PGSQL.$1 ]] || (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Makes a data directory, owned by $SB_USER, with our settings; further arguments are lines for postgresql.conf.
cluster_init() {
	local data=$1 socket=$2 port=$3 line

	shift 3
	if ! as_user "$PG_BIN/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C -N >"$SB_WORK/initdb.log" 2>&1; then
		cat "$SB_WORK/initdb.log" >&2
		warn "initdb failed"
		return 1
	fi
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$socket'"
		echo "port = $port"
		echo "shared_preload_libraries = 'stream_beam'"
		echo "wal_level = logical"
		echo "max_replication_slots = 40"
		echo "max_wal_senders = 10"
		echo "max_worker_processes = 100"
		echo "timezone = 'UTC'"
		echo "log_line_prefix = '%m [%p] %b %q%d '"
		for line in "$@"; do
			printf '%s\n' "$line"
		done
	} | as_user tee -a "$data/postgresql.conf" >/dev/null
}

# cluster_start NAME [SETTING...]: a new server in $SB_WORK/NAME; the PG variables lead to it. Returns when it accepts connections,
# or false, having said why.
cluster_start() {
	local name=$1 dir port

	shift
	work_dir
	dir=$SB_WORK/$name
	port=$(free_port)
	as_user mkdir "$dir" && cluster_init "$dir/data" "$dir" "$port" "$@" || return 1
	if ! as_user "$PG_BIN/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 start >/dev/null 2>&1; then
		tail -n 40 "$dir/log" >&2 || true
		warn "the server of $name did not start"
		return 1
	fi
	export PGHOST=$dir PGPORT=$port PGUSER=postgres PGDATABASE=postgres
}

cluster_stop() {
	stop_server "$SB_WORK/$1/data"
	unset PGHOST PGPORT PGUSER PGDATABASE
}

# Lines of the server's log that no test may cause. Prints them; true if there are any.
cluster_crashes() { grep -E 'TRAP:|PANIC:|was terminated by signal (4|6|7|8|11)' "$SB_WORK/$1/log"; }

# psql without the user's habits, stopping at the first error
sql() { "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 "$@"; }

# ---- other versions ------------------------------------------------------------------------------------------------------------

# test_version LOG MAJOR [LAYER...]: runs the tests with one version only, and sets `passed` and `failed` of the caller: the numbers
# of the last line, with a failure more where there are none.
# shellcheck disable=SC2034 # they are for the caller
test_version() {
	local log=$1 major=$2 rc=0

	shift 2
	run_logged "$log" env -u SB_BUILD -u PG_CONFIG "PG_MAJOR=$major" SB_ONE_VERSION=1 "$SB_ROOT/scripts/test" "$@" || rc=$?
	passed=0
	failed=0
	read -r passed failed < <(sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log") || failed=1
	[[ $rc -eq 0 || $failed -gt 0 ]] || failed=1
}
