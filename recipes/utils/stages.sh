# Numbered stages, Kaldi-style; source this after setting `stage`, `stop_stage` and `exp`.
#
#   [output=FILE] run_stage NUMBER "what it does" INPUT... -- COMMAND...
#
# runs COMMAND if NUMBER is in [stage, stop_stage], unless it already finished with the same command line and
# the same INPUT files, which a hash of all of them in $exp/stages says, and FILE is still there. --force runs it
# anyway. The mark also keeps the seconds that the stage took.

# Options that are no whole numbers; a recipe adds its own.
path_options="exp speech results"  # seen from $start_dir
text_options="corpus"
config_options="config"            # a YAML file, or the name of one in the recipe's conf or in msdet/configs

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
  # --some-option VALUE sets the variable some_option, which must exist
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) help_message; exit 0 ;;
      --force) force=true; shift ;;
      --*)
        local name=${1#--} value=${2:-}
        name=${name//-/_}
        if [ -z "${!name+set}" ]; then echo "error: unknown option $1 (see --help)" >&2; exit 2; fi
        if [ $# -lt 2 ]; then echo "error: $1 needs a value" >&2; exit 2; fi
        case " $path_options / $text_options / $config_options " in
          *" $name "*/*/*) case $value in /*) ;; *) value=$start_dir/$value ;; esac ;;
          */*" $name "*/*) ;;
          */*/*" $name "*) find_config "$1" "$value"; value=$found ;;
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
    config) folders=("recipes/$recipe/conf" msdet/configs) ;;
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
    for path in $path; do if [ -f "$path" ]; then known+=("$(basename "$path" .yaml)"); fi; done
  done
  local names=${known[*]}
  echo "error: --$kind is '$name', expected a YAML file or one of: ${names// /, }" >&2
  exit 2
}

given_command() {
  # the command line, with the names of its options in place of this machine's paths
  local text name
  text="recipes/$(recipe_name)/run.sh"
  while [ $# -gt 0 ]; do
    name=${1#--}
    case " $path_options / $config_options " in
      *" ${name//-/_} "*/*) text+=" $1 ${name^^}"; shift ;;
      */*" ${name//-/_} "*) case $2 in */*) text+=" $1 ${name^^}" ;; *) text+=" $1 $2" ;; esac; shift ;;
      *) text+=" $1" ;;
    esac
    shift
  done
  echo "$text"
}
