"""The settings of LatentSync's four SyncNet files, written as its files are laid out."""

from __future__ import annotations

from textwrap import dedent

_ENCODERS = {
    "16_pixel": ("[0, 0, 0, 0, 0, 0, 0]", "[0, 0, 0, 0, 0, 0, 0, 0]"),
    "16_pixel_attn": ("[0, 0, 0, 1, 1, 0, 0]", "[0, 0, 0, 0, 1, 1, 0, 0]"),
}


def latentsync_yaml(name: str) -> str:
    """The text of one file."""
    return f"{_model(name)}\n{_rest(name)}"


def _model(name: str) -> str:
    if name in _ENCODERS:
        audio, visual = _ENCODERS[name]
        return dedent(f"""\
            model:
              audio_encoder: # input (1, 80, 52)
                in_channels: 1
                block_out_channels: [32, 64, 128, 256, 512, 1024, 2048]
                downsample_factors: [[2, 1], 2, 2, 1, 2, 2, [2, 3]]
                attn_blocks: {audio}
                dropout: 0.0
              visual_encoder: # input (48, 128, 256)
                in_channels: 48
                block_out_channels: [64, 128, 256, 256, 512, 1024, 2048, 2048]
                downsample_factors: [[1, 2], 2, 2, 2, 2, 2, 2, 2]
                attn_blocks: {visual}
                dropout: 0.0
            """)
    if name == "16_latent":
        return dedent("""\
            model:
              audio_encoder: # input (1, 80, 52)
                in_channels: 1
                block_out_channels: [32, 64, 128, 256, 512, 1024]
                downsample_factors: [[2, 1], 2, 2, 2, 2, [2, 3]]
                attn_blocks: [0, 0, 0, 0, 0, 0]
                dropout: 0.0
              visual_encoder: # input (64, 32, 32)
                in_channels: 64
                block_out_channels: [64, 128, 256, 256, 512, 1024]
                downsample_factors: [2, 2, 2, 1, 2, 2]
                attn_blocks: [0, 0, 0, 0, 0, 0]
                dropout: 0.0
            """)
    return dedent("""\
        model:
          audio_encoder: # input (1, 80, 80)
            in_channels: 1
            block_out_channels: [64, 128, 256, 256, 512, 1024]
            downsample_factors: [2, 2, 2, 2, 2, 2]
            dropout: 0.0
          visual_encoder: # input (75, 128, 256)
            in_channels: 75
            block_out_channels: [128, 128, 256, 256, 512, 512, 1024, 1024]
            downsample_factors: [[1, 2], 2, 2, 2, 2, 2, 2, 2]
            dropout: 0.0
        """)


def _rest(name: str) -> str:
    latent = name == "16_latent"
    frames, batch = (25, 64) if name == "25_pixel" else (16, 120 if latent else 256)
    return dedent(f"""\
        ckpt:
          resume_ckpt_path: ""
          inference_ckpt_path: checkpoints/stable_syncnet.pt
          save_ckpt_steps: 2500

        data:
          train_output_dir: debug/syncnet
          num_val_samples: {1200 if latent else 2048}
          batch_size: {batch} # {batch}
          gradient_accumulation_steps: 1
          num_workers: 12 # 12
          latent_space: {str(latent).lower()}
          num_frames: {frames}
          resolution: 256
          train_fileslist: fileslist/train.txt
          train_data_dir: ""
          val_fileslist: ""
          val_data_dir: val
          audio_mel_cache_dir: cache/mel
          lower_half: {str(not latent).lower()}
          audio_sample_rate: 16000
          video_fps: 25

        optimizer:
          lr: 1e-5
          max_grad_norm: 1.0

        run:
          max_train_steps: 10000000
          validation_steps: 2500
          mixed_precision_training: true
          seed: 42
        """)
