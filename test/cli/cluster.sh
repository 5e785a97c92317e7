# The scripts for nodes and clusters: what they would run, and that they look first.
cd "$ROOT" || exit 1
echo "== setup_node.sh"
scripts/setup_node.sh -d | sed -n 's/^\(== .*\)/\1/p; s/^\(+ make -j\).*/\1N/p; s/^\(+ .*gpt.*\)/\1/p'
echo "== run_gpt2_124m.sh"
GPUS=8 GPT=./gpt scripts/run_gpt2_124m.sh -d --set train.max_steps=10
cd "$OLDPWD" || exit 1

echo "== run_multinode.sh"
printf '# two nodes\nnode1 slots=8\nnode2  slots = 4 # smaller\n' >hosts
cp "$GPT" gpt
echo '#!/bin/sh
shift; sh -c "$*"' >here && chmod +x here
multi() { SSH=./here GPT=./gpt "$ROOT/scripts/run_multinode.sh" "$@"; }
SSH=ssh GPT=./gpt "$ROOT/scripts/run_multinode.sh" -d hosts --config config.json --resume | sed -e 's/ --allow-run-as-root//' -e 's/ -x [A-Z]*_[A-Z_]*//g'
echo "node1" >bad
multi bad --config config.json || echo "status $?"
multi none --config config.json || echo "status $?"
echo '#!/bin/sh
echo 1 2' >other && chmod +x other
SSH=./other GPT=./gpt "$ROOT/scripts/run_multinode.sh" hosts --config config.json || echo "status $?"

echo "== slurm.sbatch"
mkdir -p bin scripts
cp "$ROOT/scripts/train.sh" scripts
cat >bin/srun <<'END'
#!/bin/sh
echo "srun $*"
end=$(head -n 1 ends)
sed -i 1d ends
exit "$end"
END
printf '#!/bin/sh\necho "scontrol $*"\n' >bin/scontrol
chmod +x bin/srun bin/scontrol
printf '1\n75\n' >ends
PATH=$PWD/bin:$PATH BACKOFF=0 SLURM_JOB_ID=42 SLURM_SUBMIT_DIR=$PWD bash "$ROOT/scripts/slurm.sbatch" --config config.json || echo "status $?"
bash "$ROOT/scripts/slurm.sbatch" || echo "status $?"
