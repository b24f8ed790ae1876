#!/usr/bin/env bash
# Makes Roboto-Medium.ttf from Debian's Roboto (copyright Google, Apache-2.0, as this project): the glyphs for labels in
# Latin, Greek and Cyrillic scripts, and the box for every other character.
#
# Needs Debian or Ubuntu, and fonttools (pip install fonttools==4.68.0).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download "fonts-roboto-unhinted=2:0~20170802-3" && dpkg-deb -x ./*.deb .)
pyftsubset "$work/usr/share/fonts/truetype/roboto/unhinted/RobotoTTF/Roboto-Medium.ttf" \
    --unicodes=U+0020-052F,U+1E00-1FFF,U+2010-2044,U+20A0-20BF,U+2116,U+2122 \
    --notdef-outline --layout-features= --no-hinting --drop-tables+=DSIG,GDEF,GPOS,GSUB \
    --name-IDs=0,1,2,5,13,14 --output-file=Roboto-Medium.ttf
