#!/bin/sh
# A stand-in for the commands of gitlab-runner that the runner's scripts call, for tests: caches are
# files, artifacts go to the coordinator of the tests. It is not GitLab's program, and its archives
# have another format; the arguments are those of the real one.
set -eu
command=$1
shift
file='' url='' token='' id='' paths=''
while [ $# -gt 0 ]; do
    case $1 in
        --file) file=$2; shift 2 ;;
        --url) url=$2; shift 2 ;;
        --token) token=$2; shift 2 ;;
        --id) id=$2; shift 2 ;;
        --path) paths="$paths $2"; shift 2 ;;
        --timeout | --artifact-format | --artifact-type | --name) shift 2 ;;
        *) echo "gitlab-runner: unknown argument $1" >&2; exit 1 ;;
    esac
done
place=$url/api/v4/jobs/$id/artifacts
case $command in
    --version) echo "a stand-in of the tests" ;;
    cache-archiver) mkdir -p "$(dirname "$file")"; tar -cf "$file.new" $paths; mv "$file.new" "$file" ;;
    cache-extractor) tar -xf "$file" ;;
    artifacts-uploader) tar -cf - $paths | curl -sSf -H "JOB-TOKEN: $token" --data-binary @- "$place" ;;
    artifacts-downloader) curl -sSf -H "JOB-TOKEN: $token" "$place" | tar -xf - ;;
    *) echo "gitlab-runner: no command $command" >&2; exit 1 ;;
esac
