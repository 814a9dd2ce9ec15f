# Numbered stages, Kaldi-style; source this after setting `stage`, `stop_stage` and `exp`.
#
#   [output=FILE] run_stage NUMBER "what it does" INPUT... -- COMMAND...
#
# runs COMMAND if NUMBER is in [stage, stop_stage], unless it already finished with the same command line and
# the same INPUT files, which a hash of all of them in $exp/stages says, and FILE is still there. --force runs it
# anyway. The mark also keeps the seconds that the stage took.

log() { echo "$(date +%H:%M:%S)  $*"; }

run_stage() {
  local number=$1 title=$2 inputs=() hash mark began
  shift 2
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done
  shift
  if [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ]; then return 0; fi
  for input in "${inputs[@]}"; do
    [ -e "$input" ] || { echo "error: stage $number needs $input: run the stages before it" >&2; exit 2; }
  done
  hash=$({ printf '%s\n' "$@"; [ ${#inputs[@]} -eq 0 ] || sha256sum "${inputs[@]}"; } | sha256sum | cut -c1-16)
  mark=$exp/stages/$number
  if [ "${force:-false}" = false ] && [ -f "$mark" ] && [ "$(head -n1 "$mark")" = "$hash" ] &&
    [ -e "${output:-$mark}" ]; then
    log "stage $number: $title: already done"
    return 0
  fi
  log "stage $number: $title"
  began=$(date +%s)
  "$@"
  mkdir -p "$exp/stages"
  printf '%s\n%s\n' "$hash" "$(($(date +%s) - began))" >"$mark.new" && mv "$mark.new" "$mark"
}

parse_options() {
  # --some-option VALUE sets the variable some_option, which must exist; paths are seen from $start_dir
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) help_message; exit 0 ;;
      --force) force=true; shift ;;
      --*)
        local name=${1#--} value=${2:-}
        name=${name//-/_}
        if [ -z "${!name+set}" ]; then echo "error: unknown option $1 (see --help)" >&2; exit 2; fi
        if [ $# -lt 2 ]; then echo "error: $1 needs a value" >&2; exit 2; fi
        case $name in
          exp | speech | config | results) case $value in /*) ;; *) value=$start_dir/$value ;; esac ;;
          corpus) ;;
          *)
            case $value in
              '' | *[!0-9]*) echo "error: $1 is '$value', expected a whole number" >&2; exit 2 ;;
            esac
            ;;
        esac
        printf -v "$name" '%s' "$value"
        shift 2
        ;;
      *) echo "error: unexpected argument $1 (see --help)" >&2; exit 2 ;;
    esac
  done
}
