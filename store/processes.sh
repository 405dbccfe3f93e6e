# Processes that are known by a file with their number, NAME.pid in $RUN. To be
# read by other scripts.

# A process that ended counts as gone before anybody has asked for its status.
alive() {
    [ -f "$1" ] || return 1
    case $(ps -o stat= -p "$(cat "$1")") in '' | Z*) return 1 ;; esac
}

runs() {
    alive "$RUN/$1.pid" || return 1
    echo "$1 runs already (pid $(cat "$RUN/$1.pid")); \`make stop\` stops it"
}
