#!/usr/bin/env bash
# The first hour on a real account: makes the flights project there, tries what no server on this machine can show,
# says of each step what was expected and what came, and takes everything down again. About an hour, less than 1 USD.
#
#   infra/flights/smoke.sh --dry-run    prints the steps, and needs only jq
#   infra/flights/smoke.sh              takes all steps
#   infra/flights/smoke.sh --from 7     goes on with step 7, after a mistake was mended
#   infra/flights/smoke.sh --only 15    takes one step: 15 takes everything down
#
# Needs bash, jq, curl 7.75, Terraform, the AWS CLI 2 with an administrator's credentials, AWS_REGION, and `wafer` with AWS
# in it (docs/aws.md). Names of buckets are shared by all of AWS: WAFER_SMOKE_BUCKET chooses another one.
# What is made, and the report, are in infra/flights/smoke/ until the last step; keep it, as Terraform's state is there.
#
# Not one step of this was ever taken on AWS: nobody who wrote it has an account. Its checks and its report are tested with
# programs that stand in for aws, terraform, wafer and curl (infra/local/smoke.py). The commands of AWS's own program about
# accounts, queues, executions, logs, alarms, metrics and keys were run once against MiniStack, which knows no redrive
# of messages or executions; both events were pushed into a store on a laptop. What AWS answers is taken from its pages.
# If a step differs, the script may be what is wrong: please send the report in either case.
#
# shellcheck disable=SC2329 # Steps are called by `take`, and what is asked for again by `expect_within`.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=${WAFER_SMOKE_WORK:-$root/infra/flights/smoke}
report=$work/report.txt
pause=${WAFER_SMOKE_PAUSE:-10}
dry='' from=1 only=''
project=flights
name=wafer-$project
table=wafer-smoke
# The queue of messages that could not be taken in, and all queues of what was set aside.
dead=dead-events all_dead=(dead-events dead-outbox dead-runs)

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=1 ;;
        --from) from=${2:-}; shift ;;
        --only) only=${2:-}; shift ;;
        *) usage ;;
    esac
    shift
done
case $from$only in *[!0-9]* | '') usage ;; esac

# Each program is shown with its arguments, and not run in a dry run.

show() {
    local argument line='    $'
    for argument in "$@"; do
        case $argument in
            '' | *[!A-Za-z0-9_./:=,@%+-]*) line="$line '${argument//\'/\'\\\'\'}'" ;;
            *) line="$line $argument" ;;
        esac
    done
    printf '%s\n' "$line" >&2
}

run() {
    show "$@"
    [ -n "$dry" ] || command "$@"
}

aws() { run aws --output json "$@"; }
terraform() { run terraform -chdir="$work/infra/flights" "$@"; }
wafer() { run wafer -C "$root/functions/flights" "$@"; }

take() { # NUMBER FUNCTION TEXT: takes a step, unless others were asked for
    if { [ -n "$only" ] && [ "$1" != "$only" ]; } || [ "$1" -lt "$from" ]; then
        return
    fi
    [ -n "$dry" ] || echo "$1" >"$work/step"
    printf '\n%s of 15: %s\n' "$1" "$3"
    "$2"
}

# What is expected is said before it is compared. The first difference ends the script.

differs() {
    printf '  DIFFERS  %s\n           expected: %s\n           came:     %s\n' "$1" "$2" "$3"
    exit 1
}

expect() { # WHAT WANTED CAME
    if [ -n "$dry" ]; then
        printf '  expected: %s: %s\n' "$1" "$2"
    elif [ "$2" = "$3" ]; then
        printf '  ok       %s: %s\n' "$1" "$2"
    else
        differs "$@"
    fi
}

# Asks again until the answer is the wanted one: much on AWS takes effect only after a while.
expect_within() { # SECONDS WHAT WANTED COMMAND…
    local seconds=$1 what=$2 wanted=$3 came waited=0
    shift 3
    while :; do
        came=$("$@") || came="an error, which is above"
        if [ -n "$dry" ] || [ "$came" = "$wanted" ] || [ "$waited" -ge "$seconds" ]; then
            break
        fi
        sleep "$pause"
        waited=$((waited + (pause > 0 ? pause : seconds)))
    done
    expect "$what (within $seconds s)" "$wanted" "$came"
}

queue_url() { aws sqs get-queue-url --queue-name "$name-$1" | jq -r '.QueueUrl // empty'; }

queue_arn() {
    aws sqs get-queue-attributes --queue-url "$(queue_url "$1")" --attribute-names QueueArn |
        jq -r '.Attributes.QueueArn // empty'
}

messages() { # QUEUE…: how many messages these queues have, seen or not
    local queue sum=0 count
    for queue in "$@"; do
        count=$(aws sqs get-queue-attributes --queue-url "$(queue_url "$queue")" --attribute-names All |
            jq '[.Attributes | .ApproximateNumberOfMessages, .ApproximateNumberOfMessagesNotVisible | tonumber] | add')
        sum=$((sum + ${count:-0}))
    done
    echo "$sum"
}

# Events of today: a flight that landed half an hour ago, and the weather of the last hour.

flight_event() { # NUMBER DELAY
    jq -nc --argjson flight "$1" --argjson delay "$2" '{
        tailnum: "NSMOKE", carrier: "UA", flight: $flight, origin: "EWR", dest: "HNL",
        time_hour: (now - 10800 | strftime("%Y-%m-%dT%H:00:00Z")), minute: 0, dep_delay: 0,
        arr_time: (now - 1800 - 36000 | strftime("%H%M") | tonumber), arr_delay: $delay, air_time: 100}'
}

weather_event() {
    jq -nc '{origin: "EWR", time_hour: (now - 3600 | strftime("%Y-%m-%dT%H:00:00Z")), temp: 50, dewp: 41,
        humid: 71.5, wind_dir: 270, wind_speed: 10, wind_gust: null, precip: 0, pressure: 1015, visib: 10}'
}

now_and_later() {
    jq -nr '"scheduled_departure=" + (now | todate), "scheduled_arrival=" + (now + 18000 | todate)'
}

feature() { # NAME: a feature of the view, as it is online now
    local times=()
    while read -r time; do times+=("$time"); done < <(now_and_later)
    wafer get arrival_delay tailnum=NSMOKE origin=EWR dest=HNL "${times[@]}" --output json |
        jq --arg name "$1" '.features[$name]'
}

execution_status() { aws stepfunctions describe-execution --execution-arn "$1" | jq -r '.status // empty'; }

metric() { # NAMESPACE METRIC DIMENSIONS: its sum since the script began
    aws cloudwatch get-metric-statistics --namespace "$1" --metric-name "$2" --dimensions "$3" --statistics Sum \
        --period 3600 --start-time "$(cat "$work/began" 2>/dev/null || echo BEGAN)" --end-time "$(jq -nr 'now | todate')" |
        jq '[.Datapoints[].Sum] | add // 0'
}

log_lines() { # FUNCTION PATTERN: how many lines of its log fit
    aws logs filter-log-events --log-group-name "/aws/lambda/$name-$1" --filter-pattern "$2" --max-items 100 |
        jq '.events | length'
}

has_lines() { [ "$(log_lines "$@")" = 0 ] && echo no || echo yes; }

tools_and_account() {
    local tool
    for tool in jq curl terraform aws wafer; do
        [ -n "$dry" ] || command -v "$tool" >/dev/null || differs "tools" "$tool is installed" "it is not"
    done
    [ -n "${AWS_REGION:-}" ] || [ -n "$dry" ] || differs "AWS_REGION" "a region, such as us-east-1" "nothing"
    run terraform version
    run aws --version
    run wafer --version
    local identity
    identity=$(aws sts get-caller-identity)
    expect "AWS knows the credentials" yes "$(jq -r 'if .Account then "yes" else "no" end' <<<"$identity")"
    expect "functions that are here already" 0 \
        "$(aws lambda list-functions | jq --arg name "$name-" '[.Functions[] | select(.FunctionName | startswith($name))] | length')"
    [ -n "$dry" ] || jq -nr 'now | todate' >"$work/began"
}

package() {
    [ -n "$dry" ] || [ ! -f "$root/dist/wafer-x86_64.zip" ] || { echo "  ok       dist/wafer-x86_64.zip is there"; return; }
    (cd "$root" && run wafer package)
    expect "dist/wafer-x86_64.zip" there "$([ -f "$root/dist/wafer-x86_64.zip" ] && echo there || echo missing)"
}

prepare() {
    if [ -z "$dry" ]; then
        mkdir -p "$work/infra/flights"
        cp -R "$root/infra/modules" "$work/infra/"
        cp "$root"/infra/flights/*.tf "$work/infra/flights/"
    fi
    wafer deploy --prepare --tfvars "$work/infra/flights/terraform.tfvars.json"
    expect "queues that Terraform is to make" '["landed_flights","weather_reports"]' \
        "$(jq -c .streams "$work/infra/flights/terraform.tfvars.json" 2>/dev/null)"
}

apply() {
    terraform init -input=false
    terraform apply -input=false -auto-approve "${variables[@]}"
    local plan changes=0
    plan=$(terraform plan -input=false -detailed-exitcode -no-color "${variables[@]}") || changes=$?
    [ "$changes" = 0 ] || printf '%s\n' "$plan"
    expect "a second plan finds something to change (0: no)" 0 "$changes"
    expect "what Terraform found at first, with checksums (.terraform.lock.hcl)" there \
        "$([ -f "$work/infra/flights/.terraform.lock.hcl" ] && echo there || echo missing)"
}

test_notification() {
    expect_within 300 "the function flush was invoked" yes has_lines flush START
    expect_within 300 "notifications that wait" 0 messages outbox
    expect "what could not be taken in" 0 "$(messages "${all_dead[@]}")"
}

deploy() {
    local deployed ran found
    deployed=$(wafer deploy --tfvars "$work/infra/flights/terraform.tfvars.json" --output json)
    expect "Terraform has something to do again" false "$(jq .tfvars_changed <<<"$deployed")"
    ran=$(wafer run airport --output json)
    expect "airports that are written by this machine" 1458 "$(jq .rows_written <<<"$ran")"
    # What else the account does may leave nothing of its concurrency, which it says and which is no mistake here.
    found=$(wafer doctor --aws --output json) || true
    [ -n "$dry" ] || jq -r '.[] | "    \(.what): \(.detail)"' <<<"$found"
    expect "what \`wafer doctor --aws\` finds right" '["bucket","credentials","wafer-flights-events","wafer-flights-landed_flights","wafer-flights-weather_reports"]' \
        "$(jq -c '[.[] | select(.ok) | .what | select(test("^(bucket|credentials|wafer-)"))] | sort' <<<"$found")"
}

message_through_each_queue() {
    aws sqs send-message --queue-url "$(queue_url landed_flights)" --message-body "$(flight_event 1 7)"
    aws sqs send-message --queue-url "$(queue_url weather_reports)" --message-body "$(weather_event)"
    expect_within 180 "delay of the flight that was sent" 7 feature plane_arr_delay_minutes
    expect_within 180 "humidity that was sent" 71.5 feature weather_humidity_percent
    expect_within 180 "messages that wait" 0 messages landed_flights weather_reports outbox
    expect "what could not be taken in" 0 "$(messages "${all_dead[@]}")"
}

# A message that somebody put into the queue of dead letters is moved to a stream's queue. (One that cannot be read
# would get there by itself, after an hour.)
redrive_of_a_message() {
    aws sqs send-message --queue-url "$(queue_url "$dead")" --message-body "$(flight_event 2 8)"
    aws sqs start-message-move-task --source-arn "$(queue_arn "$dead")" --destination-arn "$(queue_arn landed_flights)"
    expect_within 300 "delay of the flight that was redriven" 8 feature plane_arr_delay_minutes
    expect_within 120 "what is left of what was set aside" 0 messages "${all_dead[@]}"
}

divided_run() {
    local ran
    ran=$(wafer run plane_outcome --on aws --output json)
    expect "rows read and written by functions" '[336776,328063]' "$(jq -c '[.rows_read, .rows_written]' <<<"$ran")"
    ran=$(wafer run plane_outcome --on aws --output json)
    expect "the same again has nothing to do" null "$(jq .ran <<<"$ran")"
}

redrive_of_an_execution() {
    local execution
    execution=$(aws stepfunctions start-execution --state-machine-arn "$WAFER_STATE_MACHINE" \
        --input '{"plan": {"pipeline": "airport_weather", "partition_bytes": 268435456}}' | jq -r '.executionArn // empty')
    aws stepfunctions stop-execution --execution-arn "$execution" --cause "smoke.sh"
    expect_within 60 "state of an execution that was stopped" ABORTED execution_status "$execution"
    aws stepfunctions redrive-execution --execution-arn "$execution"
    expect_within 600 "state of it after a redrive" SUCCEEDED execution_status "$execution"
}

training_set() {
    local labels=$root/functions/flights/data/departures.csv
    wafer training-set arrival_delay --labels "$labels" --time scheduled_departure --out "$work/training.csv"
    expect "lines of the training set, as many as of the labels" "$(lines "$labels")" "$(lines "$work/training.csv")"
}

lines() { [ ! -f "$1" ] || wc -l <"$1" | tr -d ' '; }

signed_request() {
    local url body status
    url=$(terraform output -raw url)v1/views/arrival_delay/features
    body=$(jq -nc '{rows: [{tailnum: "NSMOKE", origin: "EWR", dest: "HNL",
        scheduled_departure: (now | todate), scheduled_arrival: (now + 18000 | todate)}]}')
    status=$(run curl -sS -o "$work/unsigned.json" -w '%{http_code}' -H content-type:application/json "$url" -d "$body")
    expect "a request that is not signed" 403 "$status"
    status=$(credentials | run curl -sS -K - -o "$work/signed.json" -w '%{http_code}' \
        --aws-sigv4 "aws:amz:${AWS_REGION:-REGION}:lambda" -H content-type:application/json "$url" -d "$body")
    expect "a request that is signed" 200 "$status"
}

# The settings of curl with the credentials, which no command line shows.
credentials() {
    aws configure export-credentials --format process | jq -r '
        "user = \"\(.AccessKeyId):\(.SecretAccessKey)\"",
        (.SessionToken // empty | "header = \"x-amz-security-token: \(.)\"")'
}

alarms_and_logs() {
    local function before
    # The function `runs` was stopped on purpose in step 10, and may say so.
    for function in requests events flush; do
        expect "the log of $function has errors" no "$(has_lines "$function" '?ERROR ?"Task timed out"')"
    done
    expect_within 900 "alarms" '[]' alarms
    before=$(jq -nr 'now | todate')
    # CloudWatch publishes to the topic, which is encrypted with the project's key.
    aws cloudwatch set-alarm-state --alarm-name "$name-requests-errors" --state-value ALARM --state-reason "smoke.sh"
    expect_within 120 "an alarm that is raised by hand is told to its topic" yes is_told "$before"
}

alarms() {
    aws cloudwatch describe-alarms --alarm-name-prefix "$name-" --state-value ALARM | jq -c '[.MetricAlarms[].AlarmName]'
}

is_told() { # SINCE: an alarm that was raised before, by an earlier run of this step, does not count
    aws cloudwatch describe-alarm-history --alarm-name "$name-requests-errors" --history-item-type Action --start-date "$1" |
        jq -r '[.AlarmHistoryItems[].HistorySummary] as $told
            | if any($told[]; startswith("Successfully executed action")) then "yes" else ($told | first) // "no" end'
}

# List prices of us-east-1, as docs/aws.md has them. `cost_test.py` compares them with those of `cost.py`.
cost_of_the_hour() {
    local function milliseconds=0 found reads writes
    for function in requests events flush runs; do
        found=$(metric AWS/Lambda Duration "Name=FunctionName,Value=$name-$function")
        milliseconds=$(jq -n "$milliseconds + ${found:-0}")
    done
    reads=$(metric AWS/DynamoDB ConsumedReadCapacityUnits "Name=TableName,Value=$table")
    writes=$(metric AWS/DynamoDB ConsumedWriteCapacityUnits "Name=TableName,Value=$table")
    [ -n "$dry" ] && return
    jq -nr --argjson ms "$milliseconds" --argjson reads "$reads" --argjson writes "$writes" '
        [ ["functions, GB-seconds", $ms / 1000 * 1769 / 1024, 0.0000166667],
          ["reads of the table, units", $reads, 0.000000125],
          ["writes of the table, units", $writes, 0.000000625],
          ["the key, alarms, the dashboard and a metric, hours", 1, (1.00 + 2.50 + 3.00 + 0.30) / 730] ]
        | (.[] | "  \(.[0]): \(.[1] * 100 | round / 100), \(.[1] * .[2] * 10000 | round / 10000) USD"),
          "  together, without requests of S3, SQS and Step Functions (cents): \(map(.[1] * .[2]) | add * 10000 | round / 10000) USD"'
}

teardown() {
    local key
    key=$(terraform show -json | jq -r '.. | objects | select(.type == "aws_kms_key") | .values.arn')
    terraform destroy -input=false -auto-approve "${variables[@]}"
    expect "what Terraform has left" 0 "$(terraform state list | wc -l | tr -d ' ')"
    expect "the key" PendingDeletion "$(aws kms describe-key --key-id "$key" | jq -r .KeyMetadata.KeyState)"
    expect_within 900 "what is left with the project's tags, but for the key" '[]' left_over
    expect "logs that are left" 0 \
        "$(aws logs describe-log-groups --log-group-name-prefix "/aws/lambda/$name-" | jq '.logGroups | length')"
}

left_over() {
    aws resourcegroupstaggingapi get-resources --tag-filters "Key=project,Values=$project" Key=made-by,Values=wafer |
        jq -c '[.ResourceTagMappingList[].ResourceARN | select(test(":kms:") | not)]'
}

# Where everything is, as those who use it find out.
environment() {
    local exports
    exports=$(terraform output -raw environment)
    eval "$exports"
    export WAFER_STATE_MACHINE=${WAFER_STATE_MACHINE:-STATE_MACHINE}
}

all_steps() {
    local bucket=${WAFER_SMOKE_BUCKET:-}
    if [ -z "$bucket" ] && [ -z "$dry" ]; then
        bucket=$name-smoke-$(command aws sts get-caller-identity --query Account --output text)-${AWS_REGION:-}
    fi
    export WAFER_STORE_ONLINE=dynamodb://$table WAFER_STORE_OBJECTS=s3://${bucket:-BUCKET}/flights
    variables=(-var deletion_protection=false -var "package=$root/dist/wafer-x86_64.zip")
    take 1 tools_and_account "the tools, and whose account it is"
    take 2 package "the program for Lambda (10 minutes the first time)"
    take 3 prepare "what Terraform is to make"
    take 4 apply "Terraform makes it"
    case $only in 1 | 2 | 3 | 4 | 15) ;; *) environment ;; esac
    take 5 test_notification "the bucket's test notification goes through an encrypted queue"
    take 6 deploy "functions, definitions and files"
    take 7 message_through_each_queue "a message through each encrypted queue"
    take 8 redrive_of_a_message "a message that was set aside is redriven"
    take 9 divided_run "a divided run"
    take 10 redrive_of_an_execution "an execution that was stopped is redriven"
    take 11 training_set "a training set"
    take 12 signed_request "a request that is signed, and one that is not"
    take 13 alarms_and_logs "logs and alarms"
    take 14 cost_of_the_hour "what the hour cost"
    take 15 teardown "everything is taken down, and nothing is left"
    [ -n "$dry" ] && printf '\nNothing was done.\n' || printf '\nAll as expected.\n'
}

# What is sent back: the transcript and the logs of the functions, without the number of the account.
finish_report() { # STATUS
    local account function
    if [ "$1" != 0 ]; then
        for function in requests events flush runs; do
            printf '\nlog of %s:\n' "$function"
            command aws logs filter-log-events --log-group-name "/aws/lambda/$name-$function" --max-items 50 \
                --filter-pattern '?ERROR ?WARN ?"Task timed out"' --query 'events[].message' --output text 2>&1 || true
        done >>"$report"
    fi
    account=$(command aws sts get-caller-identity --query Account --output text 2>/dev/null || echo 000000000000)
    sed "s/$account/123456789012/g" "$report" >"$report.part"
    mv "$report.part" "$report"
    if [ "$1" != 0 ]; then
        printf '\nStep %s came out otherwise. Please send back %s:\n' "$(cat "$work/step")" "$report"
        printf 'it has what was expected, what came, and the logs, without the number of your account.\n'
        printf 'Go on with --from %s, or take everything down with --only 15.\n' "$(cat "$work/step")"
    else
        printf '\nPlease send back %s as well: nobody has seen these steps pass before.\n' "$report"
    fi
}

if [ -n "$dry" ]; then
    all_steps 2>&1
    exit
fi
mkdir -p "$work"
set +e
(set -e && all_steps) 2>&1 | tee -a "$report"
status=${PIPESTATUS[0]}
set -e
finish_report "$status"
exit "$status"
