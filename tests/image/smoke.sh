# What test_image.sh has a user without a name do in the image.
set -eux
[ "$(id -u)" = 12345 ]
tsjt prepare corpora/digits.yaml
tsjt doctor corpora/digits.yaml ds_configs/cpu.json
python launchers/train.py --recipe corpora/digits.yaml --deepspeed_config ds_configs/cpu.json
tsjt evaluate runs/digits
