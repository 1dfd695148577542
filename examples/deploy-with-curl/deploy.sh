#!/usr/bin/env bash
# usage: R=URL TOKEN=TOKEN deploy.sh NAME TYPE FILE_WITH_TELEGRAM_TOKEN
set -euo pipefail
name=$1 type=$2 token_file=$3

api() { curl -sS --fail-with-body -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }

deployment=$(jq -n --arg name "$name" --arg type "$type" --rawfile token "$token_file" \
    '{botName: $name, botType: $type, environment: "production", telegramToken: ($token | rtrimstr("\n"))}' |
    api "$R/deploy" -d @- | jq -r '.deploymentId // error')
echo "deployment $deployment"

# Server-sent events: each has the whole view. The stream ends when the deployment does.
api -N "$R/deploy/$deployment?watch=true" | sed -un 's/^data: //p' |
    jq -r --unbuffered '"\(.status) \(.percent // 0)% \(.steps[-1].name // "")"' | uniq

api "$R/deploy/$deployment" | jq -e 'if .status == "deployed" then .status else .reason | halt_error end'
api "$R/recover/$name?wait=60" -d '{"method": "restart"}' | jq '.status, .attempts'
api "$R/bots/$name/explain"
