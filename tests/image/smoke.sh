# What test_image.sh has a user without a name do in the image.
set -eux
[ "$(id -u)" = 12345 ]
tsjt prepare /digits/digits.yaml
tsjt doctor /digits/digits.yaml ds_configs/cpu.json
python launchers/train.py --recipe /digits/digits.yaml --deepspeed_config ds_configs/cpu.json
tsjt evaluate runs/digits
