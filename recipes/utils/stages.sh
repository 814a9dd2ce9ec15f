# Numbered stages, Kaldi-style; source this after setting `stage`, `stop_stage` and `exp`.
#
#   [output=FILE] run_stage NUMBER "what it does" INPUT... -- COMMAND...
#
# runs COMMAND if NUMBER is in [stage, stop_stage], unless it already finished with the same command line and
# the same INPUT files, which a hash of all of them in $exp/stages says, and FILE is still there. --force runs it
# anyway. The mark also keeps the seconds that the stage took. A command that fails ends the recipe with its exit
# code; in functions given as COMMAND, `set -e` is off, so their steps end with `|| return`.

# Options that are no whole numbers; a recipe adds its own.
path_options="exp speech results"  # seen from $start_dir
text_options="corpus"
config_options="config"            # a YAML file, or the name of one in the recipe's conf or in msdet/configs

unset force output  # what a recipe that starts this one was asked for

log() { echo "$(date +%H:%M:%S)  $*"; }

run_stage() {
  local number=$1 title=$2 inputs=() hash mark began code=0 ended
  shift 2
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done
  shift
  if [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ]; then return 0; fi
  for input in "${inputs[@]}"; do
    [ -e "$input" ] || no_input "$number" "$input"
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
  run_to_end "$@" || code=$?
  if [ "$code" -eq 0 ] && [ -n "${output:-}" ] && [ ! -e "$output" ]; then
    echo "error: stage $number did not write $output" >&2
    code=1
  fi
  if [ "$code" -ne 0 ]; then
    if [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; then ended=interrupted; else ended="failed (exit code $code)"; fi
    log "stage $number: $title: $ended; finished stages are skipped when run again"
    exit "$code"
  fi
  mkdir -p "$exp/stages"
  printf '%s\n%s\n' "$hash" "$(($(date +%s) - began))" >"$mark.new" && mv "$mark.new" "$mark"
}

run_to_end() {
  # a command in a group of processes of its own: who ends the recipe, by Ctrl-C or SIGTERM, ends all of it
  local running code
  set -m
  "$@" &
  running=$!
  set +m
  trap 'kill -s INT -- "-$running"' INT
  trap 'kill -s TERM -- "-$running"' TERM
  while code=0; wait "$running" || code=$?; kill -s 0 "$running" 2>/dev/null; do :; done
  trap - INT TERM
  return "$code"
}

no_input() {
  # the end of a stage, $1, whose input, $2, is missing
  case $2 in
    "$exp"/*) echo "error: stage $1 needs $2: run the stages before it" >&2 ;;
    *) echo "error: $2: no such file" >&2 ;;
  esac
  exit 2
}

parse_options() {
  # --some-option VALUE, or --some-option=VALUE, sets the variable some_option; it must be in help_message
  local known
  known=" $(help_message | tr -s ' \n' '  ') "
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) help_message; exit 0 ;;
      --force) force=true; shift ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
      --*)
        local name=${1#--} value=${2:-}
        name=${name//-/_}
        case $known in
          *" --${name//_/-} "*) ;;
          *) echo "error: unknown option $1 (see --help)" >&2; exit 2 ;;
        esac
        if [ $# -lt 2 ]; then echo "error: $1 needs a value" >&2; exit 2; fi
        case " $path_options / $text_options / $config_options " in
          *" $name "*/*/*) case $value in /*) ;; *) value=$start_dir/$value ;; esac ;;
          */*" $name "*/*) ;;
          */*/*" $name "*) find_config "${1//_/-}" "$value"; value=$found ;;
          *)
            case $value in
              '' | *[!0-9]*) echo "error: $1 is '$value', expected a whole number" >&2; exit 2 ;;
            esac
            value=$((10#$value))
            ;;
        esac
        printf -v "$name" '%s' "$value"
        shift 2
        ;;
      *) echo "error: unexpected argument $1 (see --help)" >&2; exit 2 ;;
    esac
  done
  if [ "$nj" -eq 0 ]; then nj=$(nproc); fi  # as --jobs 0 of msdet
  if [ "$stage" -gt "$stop_stage" ]; then
    echo "error: --stage $stage is after --stop-stage $stop_stage" >&2
    exit 2
  fi
}

require_folder() {
  # $1: name of an option that must be given and be a folder
  if [ -z "${!1}" ]; then echo "error: --${1//_/-} is missing (see --help)" >&2; exit 2; fi
  if [ ! -d "${!1}" ]; then echo "error: ${!1}: no such folder" >&2; exit 2; fi
}

recipe_name() { (cd "$start_dir" >/dev/null && cd "$(dirname "$0")" >/dev/null && basename "$PWD"); }

find_config() {
  # sets `found` to the file that the value of an option like --config names
  local kind=${1#--} name=$2 recipe folders path
  recipe=$(recipe_name)
  case $kind in
    config) folders=("recipes/$recipe/conf" recipes/utils/conf msdet/configs) ;;
    *) folders=("recipes/$recipe/conf/$kind" "msdet/configs/$kind") ;;
  esac
  case $name in /*) found=$name ;; *) found=$start_dir/$name ;; esac
  if [ -f "$found" ]; then return 0; fi
  for path in "${folders[@]}"; do
    found=$path/$name.yaml
    if [ -f "$found" ]; then return 0; fi
  done
  local known=()
  for path in "${folders[@]/%//*.yaml}"; do
    for path in $path; do
      name=$(basename "$path" .yaml)
      case " ${known[*]} " in *" $name "*) ;; *) if [ -f "$path" ]; then known+=("$name"); fi ;; esac
    done
  done
  local names=${known[*]}
  echo "error: --$kind is '$2', expected a YAML file or one of: ${names// /, }" >&2
  exit 2
}

given_command() {
  # the command line, with the names of its options in place of this machine's paths
  local text name value
  text="recipes/$(recipe_name)/run.sh"
  while [ $# -gt 0 ]; do
    case $1 in
      --force) shift; continue ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    name=${1#--} value=$2
    case " $path_options " in *" ${name//-/_} "*) value=${name^^} ;; esac
    case $value in
      */*) value=${name^^} ;;
      *[!A-Za-z0-9_.,:+-]*) value=${value@Q} ;;
    esac
    text+=" $1 $value"
    shift 2
  done
  echo "$text"
}
